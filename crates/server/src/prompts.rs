//! The prompt gate in the words of whoever asks. Nothing here does any input or output.
//!
//! ```text
//! plain      our own answer, which the SDKs of OpenAI and Anthropic show
//! litellm    LiteLLM's guardrail
//! envoy      Envoy's external authorization
//! kgateway   the webhook of kgateway, agentgateway and Gloo
//! portkey    Portkey's webhook
//! forwarded  what is forwarded to a model, and what is not
//! encoding   compressed bodies
//! media      what a body is, as far as its headers say
//! ```

pub(crate) mod encoding;
pub(crate) mod envoy;
pub(crate) mod forwarded;
pub(crate) mod kgateway;
pub(crate) mod litellm;
pub(crate) mod media;
pub(crate) mod plain;
pub(crate) mod portkey;
