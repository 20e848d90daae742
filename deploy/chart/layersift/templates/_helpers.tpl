{{- define "layersift.name" -}}
{{- .Release.Name | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{- define "layersift.labels" -}}
app.kubernetes.io/name: layersift
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* The labels that select the pods of a component, the second item of the list. */ -}}
{{- define "layersift.selector" -}}
app.kubernetes.io/name: layersift
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* A log of decisions is on a volume of each replica, which only a StatefulSet has. */ -}}
{{- define "layersift.serveKind" -}}
{{ .Values.audit.enabled | ternary "StatefulSet" "Deployment" }}
{{- end -}}

{{- define "layersift.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* What cannot work, told before anything is installed. */ -}}
{{- define "layersift.check" -}}
{{- $serve := int .Values.serve.replicas -}}
{{- if .Values.sqlite.enabled -}}
{{- if ne $serve 1 -}}
{{- fail (printf "a SQLite store is for one replica, and serve.replicas is %d: set serve.replicas=1, or use PostgreSQL" $serve) -}}
{{- end -}}
{{- if gt (int .Values.workers.replicas) 0 -}}
{{- fail "a SQLite store cannot be shared with workers: set workers.replicas=0, or use PostgreSQL" -}}
{{- end -}}
{{- else -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace .Values.secrets.store.name -}}
{{- $url := get (dig "data" (dict) ($secret | default dict)) .Values.secrets.store.key | b64dec | trim -}}
{{- if and $url (not (hasPrefix "postgres" $url)) -}}
{{- fail (printf "the Secret %s names no PostgreSQL: replicas and workers cannot share a SQLite file, see the value sqlite" .Values.secrets.store.name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.prompts.upstreams (not .Values.prompts.enabled) -}}
{{- fail "prompts.upstreams has models, and prompts.enabled is false" -}}
{{- end -}}
{{- if and (ne .Values.attestations.mode "ignore") (not .Values.attestations.keys) -}}
{{- fail (printf "attestations.mode is %s, and without attestations.keys none counts" .Values.attestations.mode) -}}
{{- end -}}
{{- end -}}

{{- define "layersift.tlsSecret" -}}
{{- if eq .Values.tls.mode "existing" -}}
{{ required "tls.existingSecret is required where tls.mode is existing" .Values.tls.existingSecret }}
{{- else -}}
{{ include "layersift.name" . }}-tls
{{- end -}}
{{- end -}}

{{- define "layersift.pathSecret" -}}
{{ .Values.webhook.secretPath.existingSecret | default (printf "%s-path" (include "layersift.name" .)) }}
{{- end -}}

{{- /* The secret path: given, that of the Secret, or a new one, which is then kept for all that ask for it. */ -}}
{{- define "layersift.path" -}}
{{- $own := .Values.webhook.secretPath -}}
{{- if not $own.rendered -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "layersift.pathSecret" .) | default dict -}}
{{- $path := $own.value | default (get (dig "data" (dict) $secret) "secret-path" | b64dec | trim) -}}
{{- if and $own.existingSecret (not $path) -}}
{{- fail (printf "cannot read the key secret-path of the Secret %s: it must be there before, and where a chart is rendered without the cluster, webhook.secretPath.value as well" $own.existingSecret) -}}
{{- end -}}
{{- $path = $path | default (randAlphaNum 40) -}}
{{- if not (regexMatch "^[A-Za-z0-9_-]{32,}$" $path) -}}
{{- fail "the secret path of the webhook must have at least 32 letters, digits, - or _" -}}
{{- end -}}
{{- $_ := set $own "rendered" $path -}}
{{- end -}}
{{- $own.rendered -}}
{{- end -}}

{{- /* The name of the service in its certificate. */ -}}
{{- define "layersift.host" -}}
{{ include "layersift.name" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- /* For `config`: paths of old keys, and how many layers the service pulls by itself. */ -}}
{{- define "layersift.oldKeys" -}}
{{- $paths := list -}}
{{- range .Values.secrets.oldFingerprintKeys.keys -}}
{{- $paths = append $paths (printf "/run/layersift/old-keys/%v" .) -}}
{{- end -}}
{{ toJson $paths }}
{{- end -}}

{{- define "layersift.harbor" -}}
{{- if .Values.secrets.harbor.name -}}
[harbor]
secrets = "/run/layersift/harbor/harbor-secrets"
credentials-key = "/run/layersift/harbor/credentials-key"
{{- end -}}
{{- end -}}

{{- define "layersift.attestations" -}}
{{- if .Values.attestations.keys -}}
[attestations]
keys = ["/etc/layersift/attest.pub"]
max-age = {{ toJson .Values.attestations.maxAge }}
{{- end -}}
{{- end -}}

{{- define "layersift.pulls" -}}
{{ gt (int .Values.workers.replicas) 0 | ternary 0 4 }}
{{- end -}}

{{- define "layersift.events" -}}
{{- if .Values.events.secret -}}
[events]
{{- range .Values.events.senders }}
{{ . }}-auth = "/run/layersift/events/{{ . }}-auth"
{{- end }}
{{- end -}}
{{- end -}}

{{- /* The URL comes from a variable: it may be all that it takes to post there. */ -}}
{{- define "layersift.notify" -}}
{{- if .Values.notify.secret -}}
[notify]
format = {{ toJson .Values.notify.format }}
{{- if .Values.notify.signed }}
secret = "/run/layersift/notify/key"
{{- end }}
{{- end -}}
{{- end -}}

{{- /* Whether requests are forwarded to models: not empty if so. */ -}}
{{- define "layersift.hasProxy" -}}
{{- if and .Values.prompts.enabled .Values.prompts.upstreams -}}true{{- end -}}
{{- end -}}

{{- define "layersift.proxy" -}}
{{- if include "layersift.hasProxy" . -}}
proxy = "0.0.0.0:8445"
{{- end -}}
{{- end -}}

{{- define "layersift.prompts" -}}
{{- if .Values.prompts.enabled -}}
[prompts]
{{ include "layersift.pairs" .Values.prompts.settings }}
{{- range $name, $upstream := .Values.prompts.upstreams }}
[prompts.upstreams.{{ toJson $name }}]
{{ include "layersift.pairs" $upstream }}
{{- end }}
{{- range .Values.prompts.policies }}
[[prompts.policies]]
{{ include "layersift.pairs" . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- /* Names with texts, numbers, truth values or lists of texts, which JSON and TOML write alike. Numbers of YAML are
floating; those of the settings are whole. */ -}}
{{- define "layersift.pairs" -}}
{{- range $name, $value := . }}
{{ $name }} = {{ if kindIs "float64" $value }}{{ int64 $value }}{{ else }}{{ toJson $value }}{{ end }}
{{- end }}
{{- end -}}

{{- define "layersift.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "layersift.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "layersift.environment" -}}
{{- if .Values.sqlite.enabled -}}
- {name: LAYERSIFT_STORE, value: /var/lib/layersift/store/store.db}
{{- else -}}
- name: LAYERSIFT_STORE
  valueFrom:
    secretKeyRef: {{ dict "name" .Values.secrets.store.name "key" .Values.secrets.store.key | toJson }}
{{- end }}
{{- if .Values.secrets.registries.name }}
- {name: DOCKER_CONFIG, value: /run/layersift/registries}
{{- end }}
{{- end -}}

{{- define "layersift.sharedMounts" -}}
- {name: fingerprint-key, mountPath: /run/layersift/key, readOnly: true}
{{- if .Values.secrets.harbor.name }}
- {name: harbor, mountPath: /run/layersift/harbor, readOnly: true}
{{- end }}
{{- if .Values.secrets.registries.name }}
- {name: registries, mountPath: /run/layersift/registries, readOnly: true}
{{- end }}
{{- end -}}

{{- define "layersift.sharedVolumes" -}}
- name: fingerprint-key
  secret:
    secretName: {{ .Values.secrets.fingerprintKey.name }}
    defaultMode: 0440
    items: [{key: {{ .Values.secrets.fingerprintKey.key | quote }}, path: fingerprint-key}]
{{- if .Values.secrets.harbor.name }}
- name: harbor
  secret: {secretName: {{ .Values.secrets.harbor.name }}, defaultMode: 0440}
{{- end }}
{{- if .Values.secrets.registries.name }}
- name: registries
  secret:
    secretName: {{ .Values.secrets.registries.name }}
    defaultMode: 0440
    items: [{key: .dockerconfigjson, path: config.json}]
{{- end }}
{{- end -}}

{{- /* Pods of a component, the second item of the list, on different nodes and zones where there are some. */ -}}
{{- define "layersift.spread" -}}
{{- $context := index . 0 -}}
{{- $component := index . 1 -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "layersift.selector" (list $context $component) | nindent 6 }}
{{- end }}
{{- end -}}
