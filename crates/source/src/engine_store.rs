//! The stores of container engines on a disk: `docker-root:`, `containerd-root:` and `podman-root:`.

use layersift_disks::{Engine, Wanted};
use layersift_format::{Opened, SourceError};

use crate::open::Context;
use crate::target::{Transport, parse_path_and_reference};

/// `docker-root:`
pub(crate) static DOCKER: Transport = Transport {
    name: "docker-root",
    argument: "DIRECTORY[:NAME]",
    parse: parse_path_and_reference,
    open: |context| open(Engine::Docker, context),
};

/// `containerd-root:`
pub(crate) static CONTAINERD: Transport = Transport {
    name: "containerd-root",
    argument: "DIRECTORY[:NAME]",
    parse: parse_path_and_reference,
    open: |context| open(Engine::Containerd, context),
};

/// `podman-root:`
pub(crate) static PODMAN: Transport = Transport {
    name: "podman-root",
    argument: "DIRECTORY[:NAME]",
    parse: parse_path_and_reference,
    open: |context| open(Engine::Podman, context),
};

fn open(engine: Engine, context: &Context<'_>) -> Result<Opened, SourceError> {
    let wanted = if context.target.is_all { Wanted::All } else { Wanted::Image(context.reference()) };
    engine.open(&context.directory()?, wanted, context.cancellation()).map(Opened::Source)
}
