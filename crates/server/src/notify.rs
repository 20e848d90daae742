//! Messages about new findings: what they say, in which form, and how they are signed. Nothing here does any input or
//! output.
//!
//! ```text
//! message    what is told, and of which findings
//! body       the same in the form of the receiver
//! signature  how the receiver knows who says it
//! ```

mod body;
mod message;
mod signature;

pub(crate) use body::body;
pub(crate) use message::{Message, ToldFinding, Untold, untold};
pub(crate) use signature::signature;
