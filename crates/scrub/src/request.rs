//! What has to go: secrets, and files.

use std::collections::BTreeSet;

use layersift_model::{Finding, ImagePath, ImageReport, Location, Secret};
use layersift_scan::values::parts;

use crate::error::ScrubError;

/// A secret that has to go, wherever it is, or what is secret in it by itself, such as the password of a URL.
#[derive(Clone, Debug)]
pub struct WantedSecret {
    /// The keyed fingerprint of the secret that was asked for.
    pub fingerprint: String,
    /// The value.
    pub value: Secret,
}

/// Where a finding of a wanted secret is in a file.
#[derive(Clone, Debug)]
pub(crate) struct FoundInFile {
    /// The index of the secret in [`Request::secrets`].
    pub(crate) secret: usize,
    /// The digests of the layer's blob and of its uncompressed bytes.
    pub(crate) layer: [Option<layersift_model::Digest>; 2],
    /// The position of the layer.
    pub(crate) index: usize,
    pub(crate) path: String,
    pub(crate) entry: Option<u32>,
    pub(crate) offset: Option<u64>,
    /// Why the bytes at the offset are not those of the file, if they are not.
    pub(crate) hidden: Option<String>,
    /// The package that the file belongs to.
    pub(crate) package: Option<String>,
}

/// What has to go from an image.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub(crate) secrets: Vec<WantedSecret>,
    pub(crate) paths: BTreeSet<ImagePath>,
    pub(crate) in_files: Vec<FoundInFile>,
    /// For each secret, whether a finding is in the configuration or another document.
    pub(crate) in_documents: Vec<bool>,
    /// The paths of files with the values that were found in them.
    pub(crate) values_of_files: Vec<(String, Secret)>,
    /// The number of threads that look for values; 0 for one per processor.
    pub(crate) threads: usize,
}

impl Request {
    /// The secrets and files of the findings `ids`, in every place where `reports` find them, and the files `paths`.
    ///
    /// # Errors
    /// If there is no such finding, or it cannot be removed.
    pub fn new(reports: &[ImageReport], ids: &[String], paths: &[Vec<u8>]) -> Result<Request, ScrubError> {
        let mut request =
            Request { paths: paths.iter().map(|path| ImagePath::normalize(path)).collect(), ..Request::default() };
        for id in ids {
            let mut all = reports.iter().flat_map(|report| &report.findings);
            let finding = all.find(|finding| finding.id == *id);
            request.add(finding.ok_or_else(|| ScrubError::NoSuchFinding { id: id.clone() })?)?;
        }
        request.in_documents = vec![false; request.secrets.len()];
        for (report, finding) in reports.iter().flat_map(|report| report.findings.iter().map(move |one| (report, one)))
        {
            request.find(finding, report);
            let value = finding.secret.as_ref().and_then(|secret| secret.value.clone());
            let file = finding.file().map(|file| file.path.clone());
            request.values_of_files.extend(file.zip(value));
        }
        Ok(request)
    }

    /// Looks for values on so many threads; 0 for one per processor.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Request {
        Request { threads, ..self }
    }

    /// The secrets that have to go.
    pub fn secrets(&self) -> &[WantedSecret] {
        &self.secrets
    }

    /// Whether the finding is one of a secret that has to go.
    pub fn is_wanted(&self, finding: &Finding) -> bool {
        self.secret_of(finding).is_some()
    }

    /// Which secret a finding is. What is a part of one has a fingerprint of its own.
    fn secret_of(&self, finding: &Finding) -> Option<usize> {
        let fingerprint = finding.fingerprint()?;
        let value = finding.secret.as_ref().and_then(|secret| secret.value.as_ref());
        let by_fingerprint = self.secrets.iter().position(|secret| secret.fingerprint == fingerprint);
        by_fingerprint.or_else(|| {
            let value = value.map(Secret::reveal).filter(|value| !value.is_empty())?;
            self.secrets.iter().position(|secret| secret.value.reveal() == value)
        })
    }

    fn add(&mut self, finding: &Finding) -> Result<(), ScrubError> {
        let not = |what| ScrubError::NotRemovable { id: finding.id.clone(), what };
        let file = finding.file();
        // What is found in a file as a whole goes with the file.
        let whole = file.filter(|file| file.inside.is_empty() && (file.offset.is_none() || finding.secret.is_none()));
        if let Some(file) = whole {
            self.paths.insert(printed(&file.path));
            return Ok(());
        }
        let secret = finding.secret.as_ref().ok_or_else(|| {
            not(match finding.location {
                Location::Image => "a combination of findings",
                Location::Config(_) => "a setting of the image",
                _ => "not a secret",
            })
        })?;
        let value = secret.value.clone().filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| not("a secret whose value is not known"))?;
        if !self.secrets.iter().any(|known| known.fingerprint == secret.fingerprint) {
            let parts = parts(value.reveal());
            let parts = parts.into_iter().filter(|part| part[..] != *value.reveal()).map(Secret::new);
            let all: Vec<Secret> = std::iter::once(value.clone()).chain(parts).collect();
            let fingerprint = || secret.fingerprint.clone();
            self.secrets.extend(all.into_iter().map(|value| WantedSecret { fingerprint: fingerprint(), value }));
        }
        Ok(())
    }

    /// Notes the place of a finding of one of the secrets.
    fn find(&mut self, finding: &Finding, report: &ImageReport) {
        let Some(secret) = self.secret_of(finding) else { return };
        let Some(file) = finding.file() else {
            self.in_documents[secret] = true;
            return;
        };
        let hidden = if !file.inside.is_empty() {
            Some(format!("it is inside of {}", file.inside.join(" → ")))
        } else if !file.views.is_empty() {
            Some(format!("it is encoded as {}", file.views.join(" in ")))
        } else {
            file.binary.as_ref().map(|binary| format!("the file is an executable ({})", binary.format))
        };
        let index = file.layer_of_entry();
        let linked = report.layers.get(index).filter(|_| index != file.layer.index);
        self.in_files.push(FoundInFile {
            secret,
            layer: match linked {
                Some(layer) => [layer.digest.clone(), layer.diff_id.clone()],
                None => [file.layer.digest.clone(), file.layer.diff_id.clone()],
            },
            index,
            path: file.path.clone(),
            entry: file.attributes.as_ref().map(|attributes| attributes.entry),
            offset: file.offset,
            hidden,
            package: file.package.as_ref().map(|package| format!("{} {}", package.ecosystem, package.name)),
        });
    }
}

/// The path that a report prints as `text`.
fn printed(text: &str) -> ImagePath {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let escape = rest.strip_prefix('x').and_then(|hex| Some((hex.get(..2)?, hex.get(2..)?)));
        let wide = rest.strip_prefix("u{").and_then(|hex| hex.split_once('}'));
        if let Some((byte, after)) = escape.and_then(|(hex, rest)| Some((u8::from_str_radix(hex, 16).ok()?, rest))) {
            bytes.push(byte);
            rest = after;
        } else if let Some((c, after)) =
            wide.and_then(|(hex, rest)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, rest)))
        {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            bytes.push(b'\\');
            rest = rest.strip_prefix('\\').unwrap_or(rest);
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    ImagePath::normalize(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_path_is_read_back() {
        for name in [&b"etc/passwd"[..], b"a\\b", b"a\\x41", b"a\xff\n", "a\u{202e}b\\u{41}".as_bytes()] {
            let path = ImagePath::normalize(name);
            assert_eq!(printed(&path.to_string()), path);
        }
    }
}
