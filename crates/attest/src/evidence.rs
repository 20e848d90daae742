//! What is attached to an image, in both forms, as cosign takes it: where there is a bundle of anybody, attestations in
//! the `.att` manifest are not looked at.

use crate::bundle::{Bundle, BundleError};
use crate::dsse::Envelope;
use crate::legacy::{Layer, LegacyError};
use crate::oci::Descriptor;

/// The form in which an attestation is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A Sigstore bundle in a manifest of its own.
    Bundle,
    /// A layer of the `.att` manifest.
    Legacy,
}

/// A signed statement that is attached to an image. Nothing of it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// How it is attached.
    pub form: Form,
    /// The statement with its signatures.
    pub envelope: Envelope,
    /// The bytes that its time stamps are over.
    pub stamped: Vec<u8>,
    /// Responses of time stamp authorities.
    pub timestamps: Vec<Vec<u8>>,
}

/// Why something that is attached was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableError {
    /// A bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A layer of the `.att` manifest.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// A document that its registry does not give.
    #[error("{0} is listed, but the registry does not have it")]
    Missing(layersift_model::Digest),
    /// The same of something that is no attestation of this program.
    #[error("{0}, which has the type `{1}`, is listed, but the registry does not have it")]
    OtherMissing(layersift_model::Digest, String),
    /// A blob that is larger than an attestation of this program can be.
    #[error("{0} has {1} bytes, more than are read of an attestation")]
    BlobTooLarge(layersift_model::Digest, u64),
    /// More than is looked into.
    #[error("{0} manifests refer to the image, more than are read")]
    TooMany(usize),
    /// More bytes than are read.
    #[error("more is attached to the image than the {0} bytes that are read")]
    TooLarge(u64),
}

impl UnreadableError {
    /// Whether an attestation that counts may be among what was not read because of it.
    pub(crate) fn leaves_rest(&self) -> bool {
        match self {
            UnreadableError::TooMany(_) | UnreadableError::TooLarge(_) | UnreadableError::Missing(_) => true,
            UnreadableError::Legacy(error) => matches!(error, LegacyError::TooMany(_)),
            UnreadableError::Bundle(_) | UnreadableError::OtherMissing(..) | UnreadableError::BlobTooLarge(..) => false,
        }
    }
}

/// Everything that is attached to an image.
#[derive(Debug, Default)]
pub struct Evidence {
    bundles: Vec<Attestation>,
    legacy: Vec<Attestation>,
    has_bundle: bool,
    unreadable: Vec<UnreadableError>,
}

impl Evidence {
    /// Adds the bundle in `blob`.
    pub fn add_bundle(&mut self, blob: &[u8]) {
        match Bundle::parse(blob) {
            Ok(bundle) => {
                self.has_bundle = true;
                let stamped = bundle.envelope.signatures().first().cloned().unwrap_or_default();
                let Bundle { envelope, timestamps, .. } = bundle;
                self.bundles.push(Attestation { form: Form::Bundle, envelope, stamped, timestamps });
            }
            Err(error) => {
                self.has_bundle |= error.is_bundle();
                self.unreadable.push(error.into());
            }
        }
    }

    /// Adds a layer of the `.att` manifest.
    pub fn add_legacy(&mut self, descriptor: &Descriptor, blob: &[u8]) {
        match Layer::parse(descriptor, blob) {
            Ok(Layer { envelope, timestamp }) => {
                let (stamped, timestamps) = (blob.to_vec(), timestamp.into_iter().collect());
                self.legacy.push(Attestation { form: Form::Legacy, envelope, stamped, timestamps });
            }
            Err(error) => self.unreadable.push(error.into()),
        }
    }

    /// Adds that a bundle is too large to be read. It is one of somebody, and hides the `.att` manifest from cosign.
    pub(crate) fn add_large_bundle(&mut self, error: UnreadableError) {
        self.has_bundle = true;
        self.unreadable.push(error);
    }

    /// Adds that something could not be read.
    pub fn add_unreadable(&mut self, error: impl Into<UnreadableError>) {
        self.unreadable.push(error.into());
    }

    /// The attestations that count: the bundles or, if there is no bundle of anybody, those in the `.att` manifest.
    pub fn attestations(&self) -> &[Attestation] {
        if self.has_bundle { &self.bundles } else { &self.legacy }
    }

    /// All attestations.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Attestation> {
        self.bundles.iter().chain(&self.legacy)
    }

    /// What could not be read.
    pub fn unreadable(&self) -> &[UnreadableError] {
        &self.unreadable
    }
}
