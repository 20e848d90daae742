//! A call of containerd: the flags, and what it writes on standard input.

use std::io::Read;

use anyhow::{Context, bail, ensure};
use layersift_model::{Digest, parse};
use serde::Deserialize;

use super::ImageVerifierArgs;
use super::reason::{clean, shortened};

/// The descriptor of the image (OCI image-spec).
pub(super) const DESCRIPTOR: &str = "application/vnd.oci.descriptor.v1+json";

/// The descriptor and what it is asked for, where containerd has `verify_on_run`.
const INPUT: &str = "application/vnd.containerd.image-verifier.input.v1+json";

/// The most bytes of standard input. A descriptor has some hundreds, with annotations of a pod some thousands.
const MOST_BYTES: u64 = 4 << 20;

/// What containerd said.
pub(super) struct Call {
    name: String,
    digest: String,
    media_type: String,
}

/// The image that it is about.
pub(super) struct Image {
    /// The host of its registry, with the port.
    pub(super) host: String,
    /// The repository in the registry.
    pub(super) repository: String,
    /// Its name with the tag, if there is one, and the digest.
    pub(super) reference: String,
    /// The digest that containerd has resolved it to.
    pub(super) digest: Digest,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct Input {
    descriptor: Descriptor,
}

impl Call {
    pub(super) fn of(args: &ImageVerifierArgs) -> Call {
        Call {
            name: args.name.clone().unwrap_or_default(),
            digest: args.digest.clone().unwrap_or_default(),
            media_type: args.stdin_media_type.clone(),
        }
    }

    /// The image, if all that containerd says of it agrees.
    ///
    /// # Errors
    /// For anything that is not understood.
    pub(super) fn check(&self, mut stdin: impl Read) -> anyhow::Result<Image> {
        let digest: Digest = self.digest.parse()?;
        let image = image(&self.name, digest)
            .with_context(|| format!("unexpected image name `{}`", shortened(&clean(&self.name), 300)))?;
        let mut bytes = Vec::new();
        stdin.by_ref().take(MOST_BYTES + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
        ensure!(bytes.len() as u64 <= MOST_BYTES, "standard input is longer than 4 MiB");
        let descriptor: Descriptor = match &self.media_type[..] {
            DESCRIPTOR => parse::json(&bytes).context("standard input is not a descriptor")?,
            INPUT => parse::json::<Input>(&bytes).context("standard input has no descriptor")?.descriptor,
            other => bail!("unknown type of standard input `{}`", shortened(other, 200)),
        };
        ensure!(
            descriptor.digest == self.digest,
            "the descriptor is for the digest `{}`, and not for {}",
            shortened(&descriptor.digest, 200),
            self.digest
        );
        Ok(image)
    }
}

/// The parts of a name, which containerd has completed: `HOST/REPOSITORY[:TAG][@DIGEST]`.
fn image(name: &str, digest: Digest) -> Option<Image> {
    let (tagged, written) = match name.split_once('@') {
        Some((tagged, written)) => (tagged, Some(written)),
        None => (name, None),
    };
    let (host, path) = tagged.split_once('/')?;
    let repository = path.rsplit_once(':').map_or(path, |(repository, _)| repository);
    let is_plain = !name.contains(|c: char| c.is_control() || c.is_whitespace());
    let agrees = written.is_none_or(|written| written == digest.to_string());
    if host.is_empty() || repository.is_empty() || !is_plain || !agrees {
        return None;
    }
    let reference = format!("{tagged}@{digest}");
    Some(Image { host: host.into(), repository: repository.into(), reference, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_containerd() {
        let digest = Digest::of(b"x");
        for (name, host, repository, tagged) in [
            ("127.0.0.1:18420/ls/single:1", "127.0.0.1:18420", "ls/single", "127.0.0.1:18420/ls/single:1"),
            ("docker.io/library/single:1", "docker.io", "library/single", "docker.io/library/single:1"),
            (&format!("r.example/a:1@{digest}"), "r.example", "a", "r.example/a:1"),
            (&format!("r.example/a@{digest}"), "r.example", "a", "r.example/a"),
        ] {
            let image = image(name, digest.clone()).unwrap();
            assert_eq!((&image.host[..], &image.repository[..]), (host, repository));
            assert_eq!(image.reference, format!("{tagged}@{digest}"));
        }
        let other = format!("r.example/a@{}", Digest::of(b"y"));
        for wrong in ["", "single", "/a", "r.example/", "r.example/a b", &other] {
            assert!(image(wrong, digest.clone()).is_none(), "{wrong}");
        }
    }
}
