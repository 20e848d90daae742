//! The prompt gate in the words of whoever asks: our own answer, and LiteLLM's. Nothing here does any input or output.
//!
//! ```text
//! plain    our own answer, which the SDKs of OpenAI and Anthropic show
//! litellm  LiteLLM's guardrail
//! ```

pub(crate) mod litellm;
pub(crate) mod plain;
