{{- define "layersift.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
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

{{- define "layersift.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "layersift.tlsSecret" -}}
{{- if eq .Values.tls.mode "existing" -}}
{{ required "tls.existingSecret is required where tls.mode is existing" .Values.tls.existingSecret }}
{{- else -}}
{{ include "layersift.name" . }}-tls
{{- end -}}
{{- end -}}

{{- /* The name of the service in its certificate. */ -}}
{{- define "layersift.host" -}}
{{ include "layersift.name" . }}.{{ .Release.Namespace }}.svc
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
- name: LAYERSIFT_STORE
  valueFrom:
    secretKeyRef: {{ dict "name" .Values.secrets.store.name "key" .Values.secrets.store.key | toJson }}
{{- if .Values.secrets.registries.name }}
- {name: DOCKER_CONFIG, value: /run/registries}
{{- end }}
{{- end -}}

{{- define "layersift.sharedMounts" -}}
- {name: fingerprint-key, mountPath: /run/layersift, readOnly: true}
{{- if .Values.secrets.registries.name }}
- {name: registries, mountPath: /run/registries, readOnly: true}
{{- end }}
{{- end -}}

{{- define "layersift.sharedVolumes" -}}
- name: fingerprint-key
  secret:
    secretName: {{ .Values.secrets.fingerprintKey.name }}
    defaultMode: 0440
    items: [{key: {{ .Values.secrets.fingerprintKey.key | quote }}, path: fingerprint-key}]
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
