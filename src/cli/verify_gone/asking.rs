//! Asks registries, with the login that there is and as a stranger.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use super::questions::{Kind, Place, Question};
use crate::cli::args::RegistryArgs;
use crate::cli::context;
use layersift_format::Cancellation;
use layersift_source::registry::{Host, Login, Registry, RegistryError, RegistryOptions};

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody who was asked for gets it.
    Gone,
    /// It is served.
    Served {
        /// Also to somebody who is not logged in.
        to_strangers: bool,
    },
    /// The registry did not say.
    Unknown(String),
}

/// Clients of the registries.
pub(super) struct Askers {
    options: RegistryOptions,
    clients: RefCell<HashMap<(Host, bool), Registry>>,
}

impl Askers {
    pub(super) fn new(args: &RegistryArgs, cancellation: &Cancellation) -> anyhow::Result<Askers> {
        Ok(Askers { options: context::registry_options(args, cancellation)?, clients: RefCell::default() })
    }

    /// The client of a registry. The login of the environment is for those that the user named.
    pub(super) fn registry(&self, place: &Place) -> Result<Registry, RegistryError> {
        let key = (place.host.clone(), place.is_named);
        if let Some(known) = self.clients.borrow().get(&key) {
            return Ok(known.clone());
        }
        let login = match &self.options.login {
            Login::As(_) if !place.is_named => Login::Stored,
            login => login.clone(),
        };
        let client = Registry::new(&place.host, RegistryOptions { login, ..self.options.clone() })?;
        self.clients.borrow_mut().insert(key, client.clone());
        Ok(client)
    }

    /// Asks with the login, and as a stranger.
    pub(super) fn ask(&self, question: &Question) -> Answer {
        let registry = match self.registry(&question.place) {
            Ok(registry) => registry,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        let own = serves(&registry, question);
        let stranger = match registry.with_login(Login::Anonymous) {
            Ok(_) if matches!(self.options.login, Login::Anonymous) => None,
            Ok(stranger) => Some(serves(&stranger, question)),
            Err(error) => Some(Err(error)),
        };
        match (own, stranger) {
            (_, Some(Ok(true))) => Answer::Served { to_strangers: true },
            (Ok(true), None) => Answer::Served { to_strangers: true },
            (Ok(true), Some(_)) => Answer::Served { to_strangers: false },
            // A stranger who may not ask gets nothing.
            (
                Ok(false),
                None | Some(Ok(false) | Err(RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. })),
            ) => Answer::Gone,
            (Ok(false), Some(Err(error))) | (Err(error), _) => Answer::Unknown(error.to_string()),
        }
    }
}

fn serves(registry: &Registry, question: &Question) -> Result<bool, RegistryError> {
    let repository = &question.place.repository;
    match question.kind {
        Kind::Manifest => registry.serves_manifest(repository, &question.digest),
        Kind::Blob => registry.serves_blob(repository, &question.digest),
    }
}

impl Answer {
    /// Whether the registry did not say.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Answer::Unknown(_))
    }

    /// What is to be said besides.
    pub(super) fn note(&self) -> String {
        match self {
            Answer::Served { to_strangers: true } => ", also without a login".into(),
            Answer::Unknown(why) => format!(": {why}"),
            Answer::Gone | Answer::Served { to_strangers: false } => String::new(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Answer::Gone => "gone",
            Answer::Served { .. } => "served",
            Answer::Unknown(_) => "unknown",
        })
    }
}
