//! What the tests of the store share: one test, run on both databases.

use super::postgres;
use layersift_store::Store;
use tempfile::TempDir;

/// An empty store of a test, and what it lives in.
pub struct Fresh {
    /// The text that it is opened with.
    pub text: String,
    _directory: Option<TempDir>,
}

impl Fresh {
    /// A store in a SQLite file.
    pub fn sqlite() -> Fresh {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("store.db").to_str().unwrap().to_string();
        Fresh { text, _directory: Some(directory) }
    }

    /// A store in a database of its own in the tests' PostgreSQL.
    pub fn postgres() -> Fresh {
        Fresh { text: postgres::database(), _directory: None }
    }

    /// Opens it; again and again, if need be.
    pub fn open(&self) -> Store {
        Store::open(&self.text).unwrap()
    }
}

/// Makes a test for each database of each function named.
#[macro_export]
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { super::$test(&$crate::support::Fresh::sqlite()); })+
        }
        mod postgres {
            $(#[test] fn $test() { super::$test(&$crate::support::Fresh::postgres()); })+
        }
    };
}
