//! The scanner of a Harbor: what it asks for becomes tasks in the store, which any replica drives on and answers for.
//!
//! ```text
//! tasks      a request is taken in; what is answered to whoever polls
//! driver     tasks are driven on, a step at a time, until each has a report or an error
//! steps      one step
//! bill       steps of a bill of materials
//! second     a second scanner, whose findings are passed on with ours
//! sboms      images are read for bills of materials
//! logins     the login of a scan, lent to whatever reads its layers
//! sealing    how logins are stored
//! secrets    how Harbor shows a secret
//! catch_up   Harbor is asked for scans that it missed
//! ```
//!
//! Harbor asks nothing twice: any answer but the expected one is an error on its page. So a task that was taken in ends
//! in a report or an error, whatever becomes of this process, and polls are answered while the store is out of reach.

mod bill;
pub(crate) mod catch_up;
pub(crate) mod driver;
pub(crate) mod logins;
pub(crate) mod sboms;
pub(crate) mod sealing;
pub(crate) mod second;
pub(crate) mod secrets;
pub(crate) mod steps;
pub(crate) mod tasks;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use layersift_format::{Cancellation, read_small, read_small_text};
use layersift_source::registry::{Credentials, Host};

use self::sboms::Sboms;
use self::sealing::SealingKey;
use self::second::SecondScanner;
use crate::http::accepted::AcceptedTexts;
use crate::service::setup::SetupError;
use crate::settings::{Harbor, Settings};

/// The version that reports name.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long it is remembered that the store could not be asked about a task.
const REMEMBERED: Duration = Duration::from_secs(7_200);

/// The scanner of a Harbor.
pub(crate) struct Adapter {
    pub(crate) settings: Harbor,
    /// What Harbor may show.
    pub(crate) secrets: AcceptedTexts,
    pub(crate) key: Arc<SealingKey>,
    pub(crate) second: Option<SecondScanner>,
    /// The bills of materials that this process reads.
    pub(crate) sboms: Sboms,
    /// Where Harbor is asked for scans, whether by plain HTTP, and with which login.
    pub(crate) robot: Option<(Host, bool, Credentials)>,
    /// Whether Harbor was told of an error that says nothing about the image.
    pub(crate) has_missed: AtomicBool,
    /// Tasks that the store could not be asked about, and since when.
    outages: moka::future::Cache<String, tokio::time::Instant>,
}

impl Adapter {
    /// The scanner that the settings ask for.
    ///
    /// # Errors
    /// For a file that cannot be read.
    pub(crate) fn open(settings: &Settings, ending: &Cancellation) -> Result<Option<Adapter>, SetupError> {
        let Some(settings) = settings.harbor.clone() else { return Ok(None) };
        let failed = |path: &Path, reason: String| SetupError::Harbor(format!("{}: {reason}", path.display()));
        let secrets = AcceptedTexts::open(&settings.secrets).map_err(|reason| failed(&settings.secrets, reason))?;
        let path = &settings.credentials_key;
        let key = read_small(path).map_err(|error| failed(path, error.to_string()))?;
        let key = SealingKey::of(&key).map_err(|error| failed(path, error.to_string()))?;
        let second = second(&settings, ending)?;
        let robot = robot(&settings)?;
        let outages = moka::future::Cache::builder().max_capacity(10_000).time_to_live(REMEMBERED).build();
        Ok(Some(Adapter {
            settings,
            secrets,
            key: Arc::new(key),
            second,
            sboms: Sboms::new(tasks::new_id().map_err(|error| SetupError::Harbor(error.to_string()))?),
            robot,
            has_missed: AtomicBool::new(false),
            outages,
        }))
    }
}

/// The robot that may ask for scans: its name and its secret are in a file, with a colon between them.
fn robot(settings: &Harbor) -> Result<Option<(Host, bool, Credentials)>, SetupError> {
    let host = settings.own_host().map_err(SetupError::Harbor)?;
    let Some(((host, plain_http), path)) = host.zip(settings.login.as_deref()) else { return Ok(None) };
    let text = read(path)?;
    let login = text.trim().split_once(':').filter(|(user, secret)| !user.is_empty() && !secret.is_empty());
    let invalid = || SetupError::Harbor(format!("{}: expected NAME:SECRET of a robot", path.display()));
    let (user, password) = login.ok_or_else(invalid)?;
    Ok(Some((host, plain_http, Credentials::Password { user: user.into(), password: password.into() })))
}

fn read(path: &Path) -> Result<String, SetupError> {
    read_small_text(path).map_err(|error| SetupError::Harbor(format!("{}: {error}", path.display())))
}

fn second(settings: &Harbor, ending: &Cancellation) -> Result<Option<SecondScanner>, SetupError> {
    let Some(endpoint) = settings.merge_adapter.clone() else { return Ok(None) };
    let login = settings.merge_login.as_deref().map(read).transpose()?.map(|text| text.trim().to_string());
    settings.merge_ca.as_deref().map(read).transpose()?;
    Ok(Some(SecondScanner::new(endpoint.with_ca(settings.merge_ca.clone()), login, ending.clone())))
}
