//! What the flags and the environment say of registries.

use super::args::RegistryArgs;
use layersift_source::registry::{ClientCertificate, Credentials, Login, RegistryOptions};

/// How registries are talked to.
pub fn options(args: &RegistryArgs) -> RegistryOptions {
    let certificate = args.registry_cert.clone().zip(args.registry_key.clone());
    RegistryOptions {
        login: login(args.anonymous),
        plain_http: args.plain_http,
        extra_roots: args.registry_ca.clone(),
        client_certificate: certificate.map(|(certificate, key)| ClientCertificate { certificate, key }),
        ..RegistryOptions::default()
    }
}

fn login(anonymous: bool) -> Login {
    let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (given("LAYERSIFT_REGISTRY_USER"), given("LAYERSIFT_REGISTRY_PASSWORD")) {
        _ if anonymous => Login::Anonymous,
        (Some(user), Some(password)) => Login::As(Credentials::Password { user, password }),
        _ => Login::Stored,
    }
}
