//! Registry clients for tests, and whole images that they pull.

use std::io::Read;
use std::time::Duration;

use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, SourceError};
use layersift_model::Digest;
use layersift_source::registry::{Login, Reference, Registry, RegistryError, RegistryOptions, RegistrySource, Retry};

/// Plain HTTP, anonymous, with waits that take no time.
pub fn options() -> RegistryOptions {
    RegistryOptions {
        login: Login::Anonymous,
        plain_http: true,
        retry: Retry {
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
            longest_retry_after: Duration::from_millis(50),
            ..Retry::default()
        },
        certificate_directories: Vec::new(),
        ..RegistryOptions::default()
    }
}

pub fn registry(host: &str, options: RegistryOptions) -> Registry {
    Registry::new(&host.parse().unwrap(), options).unwrap()
}

pub fn source(reference: &str, options: RegistryOptions) -> RegistrySource {
    let reference: Reference = reference.parse().unwrap();
    RegistrySource::new(Registry::new(&reference.host, options).unwrap(), reference)
}

/// An image as it was pulled.
#[derive(Debug)]
pub struct Pulled {
    pub reference: Option<String>,
    pub manifest: Digest,
    pub config: Vec<u8>,
    /// Digest and bytes of each layer, the digest verified.
    pub layers: Vec<(Digest, Vec<u8>)>,
}

/// Pulls the image that a source lists.
pub fn pull(source: &dyn ImageSource) -> Result<Pulled, SourceError> {
    let listed = source.list()?;
    let [Listed::Manifest { reference, location, digest: Some(digest), .. }] = listed.as_slice() else {
        panic!("one manifest is listed: {listed:?}")
    };
    let bytes = open(source, location)?;
    assert_eq!(Digest::of(&bytes), *digest);
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let blob = |value: &serde_json::Value| -> Result<(Digest, Vec<u8>), SourceError> {
        let digest: Digest = value["digest"].as_str().unwrap().parse().unwrap();
        let bytes = open(source, &source.locate(&digest))?;
        assert_eq!(Digest::of(&bytes), digest);
        Ok((digest, bytes))
    };
    let layers = manifest["layers"].as_array().unwrap().iter().map(blob).collect::<Result<_, _>>()?;
    let config = blob(&manifest["config"])?.1;
    Ok(Pulled { reference: reference.clone(), manifest: digest.clone(), config, layers })
}

/// All bytes at a location, which must be there.
pub fn open(source: &dyn ImageSource, location: &Location) -> Result<Vec<u8>, SourceError> {
    match source.open(location)? {
        Fetched::Blob(Blob::Stream(mut stream)) => {
            let mut bytes = Vec::new();
            stream
                .read_to_end(&mut bytes)
                .map_err(|error| SourceError::Read { path: location.0.clone().into(), error })?;
            Ok(bytes)
        }
        _ => panic!("{} is not there", location.0),
    }
}

/// The registry's error inside the error of a source.
pub fn registry_error<T: std::fmt::Debug>(result: Result<T, SourceError>) -> RegistryError {
    match result.unwrap_err() {
        SourceError::Transport(error) => error.downcast::<RegistryError>().expect("a registry's error"),
        SourceError::Read { error, .. } => error.downcast::<RegistryError>().expect("a registry's error"),
        other => panic!("{other}"),
    }
}
