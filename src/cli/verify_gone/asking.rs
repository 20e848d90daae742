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
    clients: RefCell<HashMap<(Host, bool), Clients>>,
}

/// The clients of one registry.
#[derive(Clone)]
struct Clients {
    own: Registry,
    /// Why the answers of the host do not count, if they do not.
    refusal: Option<String>,
    /// One without a login, unless the other has none.
    stranger: Option<Registry>,
}

impl Askers {
    pub(super) fn new(args: &RegistryArgs, cancellation: &Cancellation) -> anyhow::Result<Askers> {
        Ok(Askers { options: context::registry_options(args, cancellation)?, clients: RefCell::default() })
    }

    /// The client of a registry that is logged in.
    pub(super) fn registry(&self, place: &Place) -> Result<Registry, RegistryError> {
        self.clients(place).map(|clients| clients.own)
    }

    /// The login of the environment is for the registries that the user named.
    fn clients(&self, place: &Place) -> Result<Clients, RegistryError> {
        let key = (place.host.clone(), place.is_named);
        if let Some(known) = self.clients.borrow().get(&key) {
            return Ok(known.clone());
        }
        let login = match &self.options.login {
            Login::As(_) if !place.is_named => Login::Stored,
            login => login.clone(),
        };
        let is_stranger = matches!(login, Login::Anonymous);
        let own = Registry::new(&place.host, RegistryOptions { login, ..self.options.clone() })?;
        let stranger = if is_stranger { None } else { Some(own.with_login(Login::Anonymous)?) };
        let refusal = match own.is_registry() {
            Ok(true) => None,
            Ok(false) => Some(format!("{} does not answer as a registry", place.host)),
            Err(error) => Some(error.to_string()),
        };
        let clients = Clients { own, refusal, stranger };
        self.clients.borrow_mut().insert(key, clients.clone());
        Ok(clients)
    }

    /// Asks with the login, and as a stranger.
    pub(super) fn ask(&self, question: &Question) -> Answer {
        let clients = match self.clients(&question.place) {
            Ok(clients) => clients,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        let own = serves(&clients.own, question);
        // What is served is served, whoever serves it.
        if let (Some(refusal), false) = (&clients.refusal, matches!(own, Ok(true))) {
            return Answer::Unknown(refusal.clone());
        }
        let stranger = clients.stranger.map(|stranger| serves(&stranger, question));
        match (own, stranger) {
            (_, Some(Ok(true))) | (Ok(true), None) => Answer::Served { to_strangers: true },
            (Ok(true), Some(_)) => Answer::Served { to_strangers: false },
            (Ok(false), None | Some(Ok(false))) => Answer::Gone,
            // A stranger who may not ask gets nothing.
            (Ok(false), Some(Err(RegistryError::Unauthorized { .. } | RegistryError::Forbidden { .. }))) => {
                Answer::Gone
            }
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
