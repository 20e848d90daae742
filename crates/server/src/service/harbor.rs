//! The scanner of a Harbor: what it asks for becomes tasks in the store, which any replica drives on and answers for.
//!
//! ```text
//! tasks      a request is taken in; what is answered to whoever polls
//! driver     tasks are driven on, a step at a time, until each has a report or an error
//! second     a second scanner, whose findings are passed on with ours
//! logins     the login of a scan, lent to whatever reads its layers
//! sealing    how logins are stored
//! secrets    what Harbor shows
//! catch_up   Harbor is asked for scans that it missed
//! ```
//!
//! Harbor asks nothing twice: any answer but the expected one is an error on its page. So a task that was taken in ends
//! in a report or an error, whatever becomes of this process, and polls are answered while the store is out of reach.

pub(crate) mod catch_up;
pub(crate) mod driver;
pub(crate) mod logins;
pub(crate) mod sealing;
pub(crate) mod second;
pub(crate) mod secrets;
pub(crate) mod tasks;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use layersift_format::Cancellation;

use self::sealing::SealingKey;
use self::second::SecondScanner;
use self::secrets::Secrets;
use crate::service::setup::SetupError;
use crate::settings::{Harbor, Settings};

/// The version that reports name.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes of the key file at least.
const LEAST_KEY: usize = 16;

/// How long it is remembered that the store could not be asked about a task.
const OUTAGE: Duration = Duration::from_secs(7_200);

/// The scanner of a Harbor.
pub(crate) struct Adapter {
    pub(crate) settings: Harbor,
    pub(crate) secrets: Secrets,
    pub(crate) key: Arc<SealingKey>,
    pub(crate) second: Option<SecondScanner>,
    /// Whether Harbor was told of an error that is none of the image.
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
        let secrets = Secrets::open(&settings.secrets).map_err(|reason| failed(&settings.secrets, reason))?;
        let path = &settings.credentials_key;
        let key = std::fs::read(path).map_err(|error| failed(path, error.to_string()))?;
        if key.len() < LEAST_KEY {
            return Err(failed(path, format!("the key of logins has at least {LEAST_KEY} bytes")));
        }
        let key = SealingKey::of(&key).map_err(|error| failed(path, error.to_string()))?;
        let second = second(&settings, ending)?;
        let outages = moka::future::Cache::builder().max_capacity(10_000).time_to_live(OUTAGE).build();
        Ok(Some(Adapter { settings, secrets, key: Arc::new(key), second, has_missed: AtomicBool::new(false), outages }))
    }
}

fn second(settings: &Harbor, ending: &Cancellation) -> Result<Option<SecondScanner>, SetupError> {
    let Some(endpoint) = settings.merge_adapter.clone() else { return Ok(None) };
    let login = settings.merge_login.as_deref().map(|path| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| SetupError::Harbor(format!("{}: {error}", path.display())))
    });
    let login = login.transpose()?.map(|text| text.trim().to_string());
    Ok(Some(SecondScanner::new(endpoint.with_ca(settings.merge_ca.clone()), login, ending.clone())))
}
