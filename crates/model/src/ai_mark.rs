//! Marks of AI in an image: files that say that an AI took part in making it, traces of assistants, and models.
//!
//! A mark is what a file says or is. Nothing is concluded from how a text reads.

use std::sync::Arc;

use crate::finding::State;
use crate::path::ImagePath;

/// What kind of mark a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AiMarkKind {
    /// `AI-DECLARATION.md`.
    Declaration,
    /// The notes of git-ai in a Git repository, `refs/notes/ai`.
    GitNotes,
    /// A record of Agent Trace.
    AgentTrace,
    /// A trailer of a commit message that names an AI.
    Trailer,
    /// The head of a file that says that an AI generated it.
    GeneratedHeader,
    /// The card of a model.
    ModelCard,
    /// Settings or instructions for an assistant.
    AssistantSettings,
    /// A transcript of a conversation with an assistant.
    AssistantTranscript,
    /// A model.
    Model,
}

/// How a mark is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AiBasis {
    /// Whoever made the file says so.
    Declared,
    /// The file is there, and says nothing about what was made with it.
    Observed,
}

impl AiMarkKind {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            AiMarkKind::Declaration => "declaration",
            AiMarkKind::GitNotes => "git-notes",
            AiMarkKind::AgentTrace => "agent-trace",
            AiMarkKind::Trailer => "trailer",
            AiMarkKind::GeneratedHeader => "generated-header",
            AiMarkKind::ModelCard => "model-card",
            AiMarkKind::AssistantSettings => "assistant-settings",
            AiMarkKind::AssistantTranscript => "assistant-transcript",
            AiMarkKind::Model => "model",
        }
    }

    /// How such a mark is known.
    pub fn basis(self) -> AiBasis {
        match self {
            AiMarkKind::Declaration
            | AiMarkKind::GitNotes
            | AiMarkKind::AgentTrace
            | AiMarkKind::Trailer
            | AiMarkKind::GeneratedHeader
            | AiMarkKind::ModelCard => AiBasis::Declared,
            AiMarkKind::AssistantSettings | AiMarkKind::AssistantTranscript | AiMarkKind::Model => AiBasis::Observed,
        }
    }
}

impl AiBasis {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            AiBasis::Declared => "declared",
            AiBasis::Observed => "observed",
        }
    }
}

/// What one file says about AI, or is. All of it comes from the image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AiRecord {
    /// What kind of mark it is.
    pub kind: AiMarkKind,
    /// The assistant, the model or the format of the model, as far as the mark names one.
    pub name: Option<String>,
    /// What the mark says.
    pub detail: String,
}

/// A mark in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AiMark {
    /// What the file says.
    pub record: Arc<AiRecord>,
    /// The file.
    pub path: Arc<ImagePath>,
    /// The index of the layer that brought it.
    pub layer: usize,
    /// Whether it is still in the final image.
    pub state: State,
    /// The index of the layer that removed it.
    pub ended_by: Option<usize>,
}

impl AiMark {
    /// Whether a container of the image has it.
    pub fn is_visible(&self) -> bool {
        self.state == State::Present
    }
}
