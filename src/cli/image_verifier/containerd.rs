//! containerd's configuration, as far as it decides whether image verifiers are asked.
//!
//! Source: containerd 2.4, `cmd/containerd/server/config/config.go`, `internal/cri/config/config.go` and
//! `plugins/cri/images/plugin.go`. Version 2 has the settings of images in the plugin `io.containerd.grpc.v1.cri`,
//! version 4 in `io.containerd.cri.v1.images`; in version 3 containerd 2.4 takes both, and earlier ones the latter
//! alone. Files of `imports` are merged over the file that names them.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use layersift_format::read_small_text;
use layersift_model::parse;
use toml::{Table, Value};

/// The configuration if no other file is named.
const DEFAULT_PATH: &str = "/etc/containerd/config.toml";

const CRI: &str = "io.containerd.grpc.v1.cri";
const IMAGES: &str = "io.containerd.cri.v1.images";
pub(super) const VERIFIER: &str = "io.containerd.image-verifier.v1.bindir";
pub(super) const TRANSFER: &str = "io.containerd.transfer.v1.local";

/// The newest version of the configuration that this follows.
pub(super) const NEWEST: i64 = 4;

/// The most bytes of a configuration on standard input.
const MOST_BYTES: u64 = 16 << 20;

/// The most files that import each other.
const MOST_FILES: usize = 256;

/// The configuration, with everything that it imports.
pub(super) struct Containerd {
    /// The version of the first file; 0 if it names none.
    pub(super) version: i64,
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
    merged: Table,
}

impl Containerd {
    /// Reads `path`, - for standard input, or the default file, which need not exist.
    pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Containerd> {
        let mut containerd = Containerd { version: NEWEST, files: Vec::new(), merged: Table::new() };
        let first = path.unwrap_or(Path::new(DEFAULT_PATH));
        if path.is_none() && !first.exists() {
            return Ok(containerd);
        }
        let mut pending = vec![first.to_path_buf()];
        let mut seen = BTreeSet::new();
        while !pending.is_empty() {
            let path = pending.remove(0);
            if !seen.insert(path.clone()) {
                continue;
            }
            anyhow::ensure!(
                seen.len() <= MOST_FILES,
                "containerd's configuration imports more than {MOST_FILES} files"
            );
            let mut text = String::new();
            let cannot_read = || format!("cannot read {}", path.display());
            if path == Path::new("-") {
                std::io::stdin().take(MOST_BYTES).read_to_string(&mut text).with_context(cannot_read)?;
            } else {
                text = read_small_text(&path).with_context(cannot_read)?;
            }
            let mut table: Table = parse::toml(&text).with_context(|| format!("invalid TOML: {}", path.display()))?;
            let version = table.get("version").and_then(Value::as_integer).unwrap_or_default();
            if containerd.files.is_empty() {
                containerd.version = version;
            }
            for import in strings(table.get("imports")) {
                pending.extend(resolve(&path, import)?);
            }
            if version < NEWEST {
                migrate(&mut table);
            }
            merge(&mut containerd.merged, table);
            containerd.files.push(path);
        }
        Ok(containerd)
    }

    /// Whether the plugin with this id is disabled.
    pub(super) fn is_disabled(&self, id: &str) -> bool {
        strings(self.merged.get("disabled_plugins")).any(|disabled| disabled == id)
    }

    /// Whether the plugin for Kubernetes is disabled.
    pub(super) fn is_cri_disabled(&self) -> bool {
        [CRI, IMAGES, "cri"].iter().any(|id| self.is_disabled(id))
    }

    /// The settings with which pulls for Kubernetes do not use the transfer service, which alone asks verifiers.
    pub(super) fn settings_without_verifiers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, wanted) in [
            ("use_local_image_pull", false),
            ("discard_unpacked_layers", false),
            ("disable_snapshot_annotations", true),
            ("image_pull_with_sync_fs", false),
        ] {
            if let Some(Value::Boolean(value)) = self.images(name).filter(|value| value.as_bool() != Some(wanted)) {
                found.push(format!("{name} = {value}"));
            }
        }
        for name in ["mirrors", "configs", "auths"] {
            let table = self.images("registry").and_then(|registry| registry.get(name)).and_then(Value::as_table);
            if table.is_some_and(|table| !table.is_empty()) {
                found.push(format!("registry.{name}"));
            }
        }
        if let Some(count) = self.images("max_concurrent_downloads").and_then(Value::as_integer).filter(|n| *n != 3) {
            found.push(format!("max_concurrent_downloads = {count}"));
        }
        found
    }

    /// Where the verifiers are.
    pub(super) fn bin_dir(&self) -> PathBuf {
        let named = self.plugin(VERIFIER, "bin_dir").and_then(Value::as_str);
        named.unwrap_or("/opt/containerd/image-verifier/bin").into()
    }

    /// How many of them are asked; `None` for all.
    pub(super) fn max_verifiers(&self) -> Option<usize> {
        let named = self.plugin(VERIFIER, "max_verifiers").and_then(Value::as_integer);
        usize::try_from(named.unwrap_or(10)).ok()
    }

    /// How long each of them may take.
    pub(super) fn per_verifier_timeout(&self) -> anyhow::Result<Duration> {
        match self.plugin(VERIFIER, "per_verifier_timeout") {
            None => Ok(Duration::from_secs(10)),
            Some(value) => {
                let text = value.as_str().unwrap_or_default();
                go_duration(text).with_context(|| format!("invalid per_verifier_timeout `{text}`"))
            }
        }
    }

    fn images(&self, name: &str) -> Option<&Value> {
        self.plugin(IMAGES, name)
    }

    fn plugin(&self, id: &str, name: &str) -> Option<&Value> {
        self.merged.get("plugins")?.get(id)?.get(name)
    }
}

/// Copies the settings of images to where version 4 has them, as containerd does. It forgets those of the table
/// `containerd` where that has no `runtimes`; they are kept here, as that may well be mended.
fn migrate(table: &mut Table) {
    let Some(plugins) = table.get_mut("plugins").and_then(Value::as_table_mut) else { return };
    let Some(cri) = plugins.get(CRI).or_else(|| plugins.get("cri")).and_then(Value::as_table).cloned() else { return };
    let mut images = Table::new();
    let containerd = cri.get("containerd").and_then(Value::as_table);
    for name in ["registry", "max_concurrent_downloads", "image_pull_with_sync_fs"] {
        images.extend(cri.get(name).map(|value| (name.to_string(), value.clone())));
    }
    for name in ["discard_unpacked_layers", "disable_snapshot_annotations"] {
        images.extend(containerd.and_then(|table| table.get(name)).map(|value| (name.to_string(), value.clone())));
    }
    let mut moved = Table::new();
    moved.insert(IMAGES.into(), Value::Table(images));
    merge(plugins, moved);
}

/// Puts `from` over `to`, table by table. The list of disabled plugins grows.
fn merge(to: &mut Table, from: Table) {
    for (name, value) in from {
        match (to.get_mut(&name), value) {
            (Some(Value::Table(to)), Value::Table(from)) => merge(to, from),
            (Some(Value::Array(to)), Value::Array(from)) if name == "disabled_plugins" => to.extend(from),
            (_, value) => {
                to.insert(name, value);
            }
        }
    }
}

fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The files that `import` of the file `parent` names. A pattern may have `*` in its last part.
fn resolve(parent: &Path, import: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = parent.parent().unwrap_or(Path::new("/")).join(import);
    if !import.contains(['*', '?', '[']) {
        return Ok(vec![path]);
    }
    let (Some(directory), Some(pattern)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        bail!("unsupported import `{import}`");
    };
    let is_supported = !directory.to_string_lossy().contains('*') && !import.contains(['?', '[']);
    anyhow::ensure!(is_supported, "unsupported import `{import}`: expected `*` in the file name alone");
    // A pattern that matches nothing names nothing.
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(Vec::new()) };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<PathBuf> =
        names.filter(|name| matches(pattern, name)).map(|name| directory.join(name)).collect();
    files.sort();
    Ok(files)
}

/// Whether `name` is what `pattern` says, where `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A duration as Go writes it, such as `1m30s` or `500ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn containerd(text: &str) -> Containerd {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Containerd::read(Some(&path)).unwrap()
    }

    #[test]
    fn each_setting_that_switches_verifiers_off_is_named() {
        let good = "version = 3\n[plugins.'io.containerd.cri.v1.images']\ndisable_snapshot_annotations = true\n\
                    max_concurrent_downloads = 3\ndiscard_unpacked_layers = false\nregistry.config_path = '/c'\n";
        assert!(containerd(good).settings_without_verifiers().is_empty());
        assert!(containerd("").settings_without_verifiers().is_empty());
        for (setting, said) in [
            ("use_local_image_pull = true", "use_local_image_pull = true"),
            ("discard_unpacked_layers = true", "discard_unpacked_layers = true"),
            ("disable_snapshot_annotations = false", "disable_snapshot_annotations = false"),
            ("image_pull_with_sync_fs = true", "image_pull_with_sync_fs = true"),
            ("max_concurrent_downloads = 5", "max_concurrent_downloads = 5"),
            ("registry.mirrors.'docker.io'.endpoint = ['https://m']", "registry.mirrors"),
            ("registry.configs.'m'.auth.username = 'u'", "registry.configs"),
            ("registry.auths.'https://m'.username = 'u'", "registry.auths"),
        ] {
            let text = format!("version = 3\n[plugins.'io.containerd.cri.v1.images']\n{setting}\n");
            assert_eq!(containerd(&text).settings_without_verifiers(), [said]);
        }
    }

    #[test]
    fn version_2_has_other_plugins() {
        let text = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nmax_concurrent_downloads = 10\n\
                    [plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.'docker.io']\nendpoint = ['https://m']\n\
                    [plugins.'io.containerd.grpc.v1.cri'.containerd]\ndiscard_unpacked_layers = true\n\
                    disable_snapshot_annotations = false\n";
        let found = containerd(text).settings_without_verifiers();
        assert_eq!(
            found,
            [
                "discard_unpacked_layers = true",
                "disable_snapshot_annotations = false",
                "registry.mirrors",
                "max_concurrent_downloads = 10"
            ]
        );
        let later = |version: &str| containerd(&text.replace("version = 2", version)).settings_without_verifiers();
        assert_eq!(later("version = 3"), found, "containerd 2.4 takes them");
        assert!(later("version = 4").is_empty(), "they are ignored there");
    }

    #[test]
    fn imports_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        let drop_in = |name: &str, text: &str| std::fs::write(folder.path().join("conf.d").join(name), text).unwrap();
        let first = "version = 3\nimports = ['conf.d/*.toml']\ndisabled_plugins = ['a.b']\n\
                     [plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = '/one'\nmax_verifiers = 4\n";
        std::fs::write(&path, first).unwrap();
        drop_in("a.toml", "version = 3\ndisabled_plugins = ['c.d']\n");
        drop_in("b.toml", "version = 3\nplugins.'io.containerd.image-verifier.v1.bindir'.bin_dir = '/two'\n");
        drop_in("c.txt", "no TOML");
        let containerd = Containerd::read(Some(&path)).unwrap();
        assert_eq!(containerd.files.len(), 3);
        assert!(containerd.is_disabled("a.b") && containerd.is_disabled("c.d") && !containerd.is_disabled(VERIFIER));
        assert_eq!((containerd.bin_dir(), containerd.max_verifiers()), ("/two".into(), Some(4)));
    }

    #[test]
    fn numbers_and_durations_of_go() {
        assert_eq!(go_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(go_duration("500ms"), Some(Duration::from_millis(500)));
        for wrong in ["", "10", "s", "1w", "1..5s"] {
            assert_eq!(go_duration(wrong), None, "{wrong}");
        }
        let negative = "[plugins.'io.containerd.image-verifier.v1.bindir']\nmax_verifiers = -1\n";
        assert_eq!(containerd(negative).max_verifiers(), None);
        assert!(matches("*.toml", "a.toml") && matches("a*b*c", "axbxc") && !matches("*.toml", "a.tom"));
    }
}
