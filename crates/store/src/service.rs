//! What a service keeps in the store: the keys it answered by, the images that clients asked about, and leases on work
//! that one of several processes does at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use layersift_model::{Digest, LayerKey};

use super::backend::{Connection, Value, row};
use super::error::{Fault, StoreError};
use super::ids::KeyId;
use super::process::{self, Processes};
use super::scan_requests::RequestLimits;
use super::{Seconds, Store, intern};

/// How many images are noted in one transaction.
const NOTED: usize = 512;

/// No lease is longer, in seconds: a year.
const LONGEST: Seconds = 366 * 24 * 3600;

row! {
    /// An image that clients asked about.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AskedImage {
        /// What is pulled: `registry/repository@digest`, without credentials.
        pub reference: String = "a.reference",
        /// Its digest.
        pub digest: Digest = "a.digest",
        /// The key of the report that they were answered by last; `None` where there was no report.
        pub key: Option<LayerKey> = "k.digest",
    }
}

row! {
    struct LeaseRow {
        process: String = "process",
        until: Seconds = "lease_until",
        seconds: Seconds = "lease_seconds",
    }
}

/// What services keep in a store; see [`Store::service`].
pub struct ServiceState<'s> {
    store: &'s Store,
}

impl<'s> ServiceState<'s> {
    pub(super) fn new(store: &'s Store) -> ServiceState<'s> {
        ServiceState { store }
    }

    /// Records that a service answers by `key`. The last time counts.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a key of more than 512 bytes, [`StoreError::Database`].
    pub fn serve_key(&self, key: &LayerKey, now: Seconds) -> Result<(), StoreError> {
        let sql = "INSERT INTO served_keys (layer_key_id, last_served) VALUES ($1, $2) \
                   ON CONFLICT (layer_key_id) DO UPDATE SET last_served = excluded.last_served \
                   WHERE served_keys.last_served < excluded.last_served";
        self.store.write(|connection| {
            let key = intern::layer_key(connection, key)?;
            connection.execute(sql, &[key.into(), now.into()]).map(drop)
        })
    }

    /// The keys that services answered by, and until when one did; the last first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn served_keys(&self) -> Result<Vec<(LayerKey, Seconds)>, StoreError> {
        let sql = "SELECT k.digest, s.last_served FROM served_keys s JOIN layer_keys k ON k.id = s.layer_key_id \
                   ORDER BY s.last_served DESC, k.id DESC";
        self.store.read(|connection| connection.query(sql, &[]))
    }

    /// Records that clients asked about images now. The key of an image stays where `asked` has none. After an error
    /// some may be recorded.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a reference or a key of more than 512 bytes, [`StoreError::Database`].
    pub fn note_asked(&self, asked: &[AskedImage], now: Seconds) -> Result<(), StoreError> {
        for some in asked.chunks(NOTED) {
            self.store.write(|connection| note(connection, some, now))?;
        }
        Ok(())
    }

    /// Images that were asked about at `since` or later, and were not answered by a report under `key`; at most
    /// `limit`, those that were asked about last first. Without those whose request waits or is being scanned, was
    /// scanned under `key`, or failed so short a time ago that [`super::ScanRequests::submit`] would not queue it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn asked_before(
        &self,
        key: &LayerKey,
        since: Seconds,
        limit: u64,
        limits: &RequestLimits,
        now: Seconds,
    ) -> Result<Vec<AskedImage>, StoreError> {
        let rest = "FROM asked_images a LEFT JOIN layer_keys k ON k.id = a.layer_key_id \
                    WHERE a.last_asked >= $1 AND (k.digest IS NULL OR k.digest <> $2) \
                    AND NOT EXISTS (SELECT 1 FROM scan_requests s LEFT JOIN layer_keys d ON d.id = s.layer_key_id \
                      WHERE s.reference = a.reference AND (s.state IN ('queued', 'running') \
                        OR (s.state = 'done' AND d.digest = $2) \
                        OR (s.state = 'failed' AND s.not_before BETWEEN $3 AND $4))) \
                    ORDER BY a.last_asked DESC, a.reference LIMIT $5";
        let retried = now.saturating_add(limits.retry_failed);
        let values = [since.into(), key.into(), now.into(), retried.into(), limit.into()];
        self.store.read(|connection| connection.select(rest, &values))
    }

    /// Takes the lease called `name` for this process, or renews it, for `seconds` from now; whether this process has
    /// it. All handles of one process have it together. The lease of another process can be taken when it ran out,
    /// when that process is known to be dead, and when it ends further away than it is long, so that a clock that was
    /// wrong does not hold it for ever.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name of more than 512 bytes, [`StoreError::Database`].
    pub fn lead(&self, name: &str, seconds: Seconds, now: Seconds) -> Result<bool, StoreError> {
        let insert = "INSERT INTO service_leases (name, process, lease_until, lease_seconds) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT DO NOTHING";
        // Only where the lease is still the one that was judged.
        let take = "UPDATE service_leases SET process = $2, lease_until = $3, lease_seconds = $4 \
                    WHERE name = $1 AND process = $5 AND lease_until = $6";
        let seconds = seconds.clamp(0, LONGEST);
        let values = [name.into(), own().into(), now.saturating_add(seconds).into(), seconds.into()];
        self.store.write(|connection| {
            intern::check_key("the name of the lease", name)?;
            if connection.execute(insert, &values)? == 1 {
                return Ok(true);
            }
            let found = connection.select::<LeaseRow>("FROM service_leases WHERE name = $1", &[name.into()])?;
            let Some(lease) = found.into_iter().next().filter(|lease| lease.is_free(now)) else { return Ok(false) };
            let known = [lease.process.into(), lease.until.into()];
            Ok(connection.execute(take, &[&values[..], &known].concat())? == 1)
        })
    }

    /// Gives the lease called `name` back, if this process has it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn resign(&self, name: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM service_leases WHERE name = $1 AND process = $2";
        self.store.write(|connection| connection.execute(sql, &[name.into(), own().into()]).map(drop))
    }

    /// Whether the store answers. Unlike all other calls, this one does not wait for a server that is out of reach.
    ///
    /// # Errors
    /// [`StoreError::Database`] where it does not.
    pub fn ping(&self) -> Result<(), StoreError> {
        self.store.pool.ping()
    }
}

impl LeaseRow {
    /// Whether this process may take it.
    fn is_free(&self, now: Seconds) -> bool {
        let left = self.until.saturating_sub(now);
        // Clocks may differ by less than a lease.
        left <= 0
            || left > self.seconds.saturating_mul(2)
            || self.process == own()
            || Processes::default().is_dead(&self.process)
    }
}

/// This process: also where the system does not say enough to tell others whether it lives.
fn own() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    process::own().unwrap_or_else(|| {
        OWN.get_or_init(|| {
            let random = RandomState::new();
            format!("unknown/{:016x}{:016x}", random.hash_one(0), random.hash_one(std::process::id()))
        })
    })
}

fn note(connection: &mut Connection, asked: &[AskedImage], now: Seconds) -> Result<(), Fault> {
    let before = "INSERT INTO asked_images (reference, digest, last_asked, layer_key_id)";
    let after = "ON CONFLICT (reference) DO UPDATE SET digest = excluded.digest, \
                 layer_key_id = COALESCE(excluded.layer_key_id, asked_images.layer_key_id), \
                 last_asked = CASE WHEN asked_images.last_asked > excluded.last_asked \
                   THEN asked_images.last_asked ELSE excluded.last_asked END";
    let keys: BTreeSet<&LayerKey> = asked.iter().filter_map(|image| image.key.as_ref()).collect();
    let mut numbers: BTreeMap<&LayerKey, KeyId> = BTreeMap::new();
    for key in keys {
        numbers.insert(key, intern::layer_key(connection, key)?);
    }
    // One statement may not touch a row twice, and rows in order keep processes from waiting in a circle.
    let mut rows: BTreeMap<&str, (&Digest, Option<KeyId>)> = BTreeMap::new();
    for AskedImage { reference, digest, key } in asked {
        intern::check_key("the reference", reference)?;
        let key = key.as_ref().and_then(|key| numbers.get(key).copied());
        let known = rows.get(&**reference).and_then(|(_, key)| *key);
        rows.insert(reference, (digest, key.or(known)));
    }
    let row = |(reference, (digest, key)): (&str, (&Digest, Option<KeyId>))| {
        [Value::from(reference), digest.into(), now.into(), key.into()]
    };
    let values: Vec<Value> = rows.into_iter().flat_map(row).collect();
    connection.insert(before, 4, &values, after).map(drop)
}
