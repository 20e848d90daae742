//! What the help of commands says after the flags: exit status, targets, examples.

pub(crate) const EXIT_STATUS: &str = "\
Exit status:
  0  pass: everything was read, and no finding fails
  1  fail: a finding is at least as severe as --fail-on
  2  error, including usage errors: there is no verdict
  3  incomplete: something could not be read";

pub(crate) const DIFF: &str = "\
A secret is told by its fingerprint, in whatever layer it is. It is rotated if nothing of the image after has it, and
another value is in its place; that the old value was revoked cannot be seen in an image.

Exit status:
  0  pass: both images were read, and nothing came that fails
  1  fail: a finding at least as severe as --fail-on came; with --require-gone, or is still there
  2  error, including usage errors: there is no verdict
  3  incomplete: something could not be read";

pub(crate) const CARVE: &str = "\
Examples:
  layersift carve image.tar 3f6a9c0d12e45b78 -o evidence --case-id 2031-004 --operator 'A. Nalyst' --key case.key
  layersift carve image.tar --layer 2 --path srv/app/.env -o evidence.tar
  layersift carve --verify evidence image.tar --public-key case.pub

Exit status:
  0  the bundle was written; with --verify: it is as it was written
  1  with --verify: it was changed, or is not of this image
  2  error, including usage errors
  3  with --verify: it was not changed, but a signature or a timestamp was not checked";

pub(crate) const SWEEP_STATUS: &str = "\
Exit status:
  0  pass: every image was read, and none fails
  1  fail: an image has a finding at least as severe as --fail-on
  2  error, including usage errors: there is no verdict
  3  incomplete: something could not be read, or the sweep ended early

SIGTERM and SIGINT end a sweep early: layers in progress go back to the queue, and the report is written. A second
signal ends it at once.";

pub(crate) const WORKER_STATUS: &str = "\
SIGTERM and SIGINT end a worker: layers in progress go back to the queue. A second signal ends it at once.

Exit status:
  0  stopped by a signal
  2  error, including usage errors";

pub(crate) const SERVE: &str = "\
Each setting of the file can be set by an environment variable as well, in capitals after LAYERSIFT_SERVE_ and with __
between a table and its field: LAYERSIFT_SERVE_LISTEN__API=0.0.0.0:8443. docs/service.md has all settings.

SIGTERM and SIGINT end the service: requests in progress are answered, and scans go back to the queue. A second signal
ends it at once.

Exit status:
  0  stopped by a signal; with --check: the settings are valid
  2  error, including usage errors";

pub(crate) const TRACE_STATUS: &str = "\
Exit status:
  0  found in an image
  1  not found in any image of the store
  2  error, including usage errors";

pub(crate) const SCRUB: &str = "\
All places of a secret are done, or nothing is written: a value in a text file becomes filler of the same length, one in
the configuration as well. Where that cannot be done, as in an archive, an executable or a database, the place is named;
--path removes the file instead. Layers that do not change keep their digests. The result is scanned before it is
written.

Rotate the secret all the same. The old image and its layers can be pulled until they are gone: `layersift verify-gone`.

Exit status:
  0  the new image was written
  1  the secret would still be in the image; nothing was written
  2  error, including usage errors and places that cannot be done; nothing was written
  3  the new image was written, but parts of it could not be read

docs/scrub.md has the details.";

pub(crate) const VERIFY_GONE: &str = "\
A registry goes on serving the layers of an image that was deleted, until it has collected its garbage. So each manifest
and each blob is asked for by its digest, with the login that there is and without one. What cannot be asked for is not
held to be gone.

Exit status:
  0  gone everywhere
  1  something is still served; it is named
  2  error, including usage errors
  3  a registry did not say, or the layers of an image are not known";

pub(crate) const AUDIT_STATUS: &str = "\
Exit status:
  0  the log is what was written, as far as its checkpoints and those that were given tell
  1  it was changed, or its end was cut off: the first entry is named
  2  error, including usage errors

docs/audit.md says what this proves, and what not.";

pub(crate) const IMAGE_VERIFIER: &str = "\
containerd runs every file in its bin_dir, with flags that have one dash and no command. So put a link there:
  ln -s /usr/local/bin/layersift /opt/containerd/image-verifier/bin/10-layersift-image-verifier

/etc/layersift/image-verifier.toml, or the file that LAYERSIFT_VERIFIER_CONFIG names, says how to ask the service.

Exit status:
  0  allowed; with --check: the verifier is in force
  1  denied, with the reason on standard output; with --check: it is not in force
  2  with --check: error, including usage errors";

pub(crate) const HOOK: &str = "\
Assistants run this command, with the event as JSON on standard input: Claude Code, Codex, Copilot CLI, Cursor and Vibe.
`layersift hook install` adds it to their settings. It needs no service, sends nothing and keeps nothing.

Exit status:
  0  allowed, or blocked by the JSON on standard output
  2  blocked, with the reason on standard error: the event could not be checked, or error, including usage errors

docs/hooks.md has the events, what blocks, and what an assistant shows to no hook.";

pub(crate) const TARGETS: &str = "\
Targets:
  image.tar                        tar of docker save, podman, skopeo or buildah; also .gz, .zst
  directory                        an OCI layout, skopeo's dir:, or a root file system
  -                                such a tar on standard input
  docker://[HOST/]NAME[:TAG]       an image in a registry, pulled as a stream; or @DIGEST
  docker-daemon:NAME[:TAG]         an image of the Docker or Podman daemon at DOCKER_HOST
  docker-archive:FILE[:REFERENCE]  one image of a docker save tar
  oci:DIRECTORY[:REFERENCE]        one image of an OCI layout
  oci-archive:FILE[:REFERENCE]     one image of an OCI layout in a tar
  dir:DIRECTORY                    skopeo's directory transport
  rootfs:PATH                      a root file system, as directory or tar
  docker-root:DIRECTORY[:NAME]     an image in the store of Docker on a disk; with --all, everything there
  containerd-root:DIRECTORY[:NAME] the same for containerd
  podman-root:DIRECTORY[:NAME]     the same for Podman and Buildah

Examples:
  layersift scan image.tar
  docker save app:1.2 | layersift scan --fail-on critical -
  layersift scan --format json -o report.json oci:layout:v1
  layersift scan --format text --format sarif -o report.sarif --format junit -o report.xml image.tar";

pub(crate) const SBOM: &str = "\
Read are the records of dpkg, apk, rpm, npm, Python distributions, Java archives and the archives in them, and what Go
and cargo-auditable record in executables. A package that a later layer removed is still in the layer that brought it:
it is listed with the state deleted or overwritten, and in CycloneDX with the scope excluded. Secrets and keys are
listed, masked, and so is what says that an AI made something, or is a model.

TARGET is what `layersift scan` takes; see layersift scan --help.

Examples:
  layersift sbom image.tar
  layersift sbom --format cyclonedx -o image.cdx.json docker://registry.example.org/team/app:1.2
  layersift sbom --format spdx --no-secrets oci:layout:v1
  layersift sbom --only hidden oci:layout:v1

Exit status:
  0  everything was read
  2  error, including usage errors
  3  incomplete: something could not be read, and packages may be missing";

pub(crate) const ATTEST: &str = "\
An image of a registry gets attestations in both forms of cosign: of its index, if it has one, and of every platform.
They have a verdict and counts of findings, and not where anything was found. An image that does not pass gets nothing,
unless --attach-failing is given, and then another predicate type than one that passes.

After that, `cosign verify --key`, which checks the signature of an image, passes with the same key. Never attest with a
key that a policy trusts for signatures of images.

Examples:
  layersift generate-key layersift
  layersift attest docker://registry.example.org/team/app:1.2 --key layersift.key
  layersift attest docker://registry.example.org/team/app:1.2 --key layersift.key --report report.json
  layersift attest oci:layout:v1 --key layersift.key -o bundles.jsonl

Exit status:
  0  attested, and the image passes
  1  the image fails
  2  error, including usage errors
  3  the image was not read as a whole";

pub(crate) const VERIFY: &str = "\
Of an index, the index and every platform have to be attested, or with --platform the index and that platform.

Examples:
  layersift verify docker://registry.example.org/team/app:1.2 --key layersift.pub --max-age 7d
  layersift verify sha256:DIGEST --key layersift.pub --bundle bundles.jsonl

Exit status:
  0  attested as demanded
  1  not attested as demanded, with the reasons on standard output
  2  error, including usage errors";

pub(crate) const GENERATE_KEY: &str = "\
The private key is encrypted with the password in the file, or in LAYERSIFT_KEY_PASSWORD. Its form is that of cosign.

Use the key for attestations only. `cosign verify --key`, which checks the signature of an image, passes for an image
that has only an attestation by this key: a policy that trusts it for signatures lets in whatever was attested.

Examples:
  layersift generate-key --password-file password layersift";

const RENDERING: &str = "\
Reports:
  report.json          what `layersift scan --format json` writes; several files are one set
  -                    such a report on standard input
  sha256:DIGEST        with --store, the image with this manifest
  HOST/NAME:TAG        with --store, the images that this tag names; or @DIGEST

Examples:
  layersift scan --format json image.tar | layersift render --policy policy.toml -
  layersift render --show info report.json
  layersift render --store sweep.db --format json registry.example.org/team/app:1.2";

/// After the flags of `scan`.
pub(crate) fn scan() -> String {
    format!("{TARGETS}\n\n{EXIT_STATUS}")
}

/// After the flags of `render`.
pub(crate) fn render() -> String {
    format!("{RENDERING}\n\n{EXIT_STATUS}")
}
