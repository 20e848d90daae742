//! HTTP as the service speaks it: HTTP/1.1 alone, as API servers do with webhooks, and within bounds of connections,
//! time, headers and bodies.
//!
//! ```text
//! listener     accepts connections, and hands requests to a router
//! unread       connections whose clients do not read
//! connections  how many there may be, and which gives way
//! tls          certificates, read again when they change
//! peer         who is at the other end of a connection
//! tokens       Bearer tokens
//! accepted     other texts that a client may have in `Authorization`
//! limits       requests of a client per second
//! json         answers in JSON, in which nothing steers a terminal
//! answers      large answers, and the memory that they take until they are read
//! body         a body that is parsed while it arrives
//! problem      errors as RFC 9457 has them
//! metrics      what Prometheus reads
//! ```

pub(crate) mod accepted;
pub(crate) mod answers;
pub(crate) mod body;
pub(crate) mod connections;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod listener;
pub(crate) mod metrics;
pub(crate) mod peer;
pub(crate) mod problem;
pub(crate) mod tls;
pub mod tokens;
pub(crate) mod unread;
