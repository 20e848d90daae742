//! Platforms, and the choice of an image from a multi-platform index.

use std::fmt;
use std::str::FromStr;

/// A platform as `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v8`.
    pub variant: Option<String>,
}

/// Which images of an index to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Every image.
    All,
    /// The image for a platform.
    One(Platform),
    /// The only image of the index, or the one for Linux on the architecture of this machine.
    Default,
}

impl Platform {
    /// Linux on the architecture of this machine, which is named as in Go (`GOARCH`).
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// Whether this platform matches `wanted`. The variant is only compared if `wanted` has one.
    pub fn satisfies(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_string())),
            _ => ("", "", None),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(format!("invalid platform `{text}`: expected OS/ARCH such as linux/amd64, or `all`"));
        }
        Ok(Platform { os: os.into(), architecture: architecture.into(), variant })
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Choice::All),
            _ => text.parse().map(Choice::One),
        }
    }
}
