//! The numbers that rows are known by. Each kind is a type of its own, so that a layer's is not taken for an image's.

use super::backend::{FromValue, Value};
use super::error::Fault;

macro_rules! ids {
    ($($(#[$meta:meta])* $visibility:vis struct $name:ident;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility struct $name(i64);

        impl From<$name> for Value {
            fn from(id: $name) -> Value {
                Value::Int(id.0)
            }
        }

        impl FromValue for $name {
            fn from_value(value: Value) -> Result<$name, Fault> {
                i64::from_value(value).map($name)
            }
        }
    )+};
}

ids! {
    /// The number of an image in the store it came from.
    pub struct ImageId;
    /// The number of a run in the store it came from.
    pub struct RunId;
    /// The number of a request for a scan in the store it came from.
    pub struct RequestId;
    /// The number of a message in the store it came from.
    pub struct NotificationId;
    /// The number of a layer.
    pub(super) struct LayerId;
    /// The number of a [`layersift_model::LayerKey`].
    pub(super) struct KeyId;
    /// The number of a chain: the first layers of an image, in order.
    pub(super) struct ChainId;
    /// The number of an instruction of an image's history.
    pub(super) struct InstructionId;
    /// The number of a rule.
    pub(super) struct RuleId;
    /// The number of a package.
    pub(super) struct PackageId;
    /// The number of a finding.
    pub(super) struct FindingId;
    /// The number of a repository.
    pub(super) struct RepositoryId;
    /// The number of a job.
    pub(super) struct JobId;
}

impl ImageId {
    /// The image with this number, to go on with a list after it.
    pub fn from_number(number: i64) -> ImageId {
        ImageId(number)
    }

    /// The number itself.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl RunId {
    /// The run with this number, which a report has.
    pub fn from_number(number: i64) -> RunId {
        RunId(number)
    }

    /// The number itself, for reports.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl RequestId {
    /// The request with this number, which a client was told.
    pub fn from_number(number: i64) -> RequestId {
        RequestId(number)
    }

    /// The number itself, for clients.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl ChainId {
    /// What the table has for the parent of a chain of one layer.
    pub(super) const NONE: ChainId = ChainId(0);
}
