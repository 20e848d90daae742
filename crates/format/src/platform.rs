//! Platforms, and the choice of an image from a multi-platform index.
//!
//! Sources: OCI image-spec v1.1, `image-index.md`, and containerd's `platforms` package, whose rules Docker uses for
//! other spellings of an architecture and for the order in which compatible platforms are tried.

use std::fmt;
use std::str::FromStr;

/// A platform as `os/architecture[/variant]`, in the spelling of Go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`; `None` for the usual variant of the architecture.
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
    /// The platform of these fields, in any of the spellings that Docker takes.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let os = match os.to_ascii_lowercase() {
            os if os == "macos" => "darwin".into(),
            os => os,
        };
        let (architecture, variant) = usual(&architecture.to_ascii_lowercase(), &variant.to_ascii_lowercase());
        Platform { os, architecture, variant: (!variant.is_empty()).then_some(variant) }
    }

    /// Linux on the architecture of this machine.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform::new("linux", architecture, "")
    }

    /// Whether this is the platform of documents that are not images, such as attestations.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// How well an image of this platform serves where `wanted` is asked for: 0 is best, and `None` not at all.
    pub fn rank(&self, wanted: &Platform) -> Option<usize> {
        if self.os != wanted.os {
            return None;
        }
        let own = (&self.architecture[..], self.variant.as_deref().unwrap_or_default());
        compatible(&wanted.architecture, wanted.variant.as_deref().unwrap_or_default())
            .iter()
            .position(|(architecture, variant)| (&architecture[..], &variant[..]) == own)
    }
}

/// The usual spelling of an architecture and its variant, as containerd's `normalizeArch`.
fn usual(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.into(), variant.into())
}

/// The architectures and variants that run where these are asked for, best first, as containerd's `platformVector`.
fn compatible(architecture: &str, variant: &str) -> Vec<(String, String)> {
    let pair = |architecture: &str, variant: &str| (architecture.to_string(), variant.to_string());
    let number = |prefix: &str| variant.strip_prefix(prefix).and_then(|digits| digits.parse::<u32>().ok());
    let mut all = vec![pair(architecture, variant)];
    match architecture {
        "amd64" => {
            if let Some(version) = number("v") {
                all.extend((2..version.min(9)).rev().map(|version| pair("amd64", &format!("v{version}"))));
                all.push(pair("amd64", ""));
            }
            all.push(pair("386", ""));
        }
        "arm" => {
            if let Some(version) = number("v") {
                all.extend((5..version.min(9)).rev().map(|version| pair("arm", &format!("v{version}"))));
            }
        }
        "arm64" => {
            if !variant.is_empty() {
                all.push(pair("arm64", ""));
            }
            all.extend([8, 7, 6, 5].map(|version| pair("arm", &format!("v{version}"))));
        }
        _ => {}
    }
    all
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
        let invalid = || format!("invalid platform `{text}`: expected OS/ARCH such as linux/amd64, or `all`");
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(invalid());
        }
        match parts[..] {
            [one] if is_os(one) => Ok(Platform { os: one.to_ascii_lowercase(), ..Platform::host() }),
            [one] if is_architecture(one) => Ok(Platform::new("linux", one, "")),
            [os, architecture] => Ok(Platform::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, variant)),
            _ => Err(invalid()),
        }
    }
}

fn is_os(text: &str) -> bool {
    ["linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd", "solaris", "wasip1", "wasi"]
        .contains(&&text.to_ascii_lowercase()[..])
}

fn is_architecture(text: &str) -> bool {
    let known = [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
        "riscv64", "s390x", "wasm",
    ];
    known.contains(&&usual(&text.to_ascii_lowercase(), "").0[..])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_that_docker_takes() {
        for (text, expected) in [
            ("amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("Linux/I386", "linux/386"),
            ("windows/amd64", "windows/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
        for bad in ["", "/", "linux/", "a/b/c/d", "sparkling"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn compatible_platforms_serve_in_the_order_of_containerd() {
        let rank = |own: &str, wanted: &str| {
            let parse = |text: &str| text.parse::<Platform>().unwrap();
            parse(own).rank(&parse(wanted))
        };
        assert_eq!(rank("linux/arm64/v8", "linux/arm64"), Some(0));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!((rank("linux/arm/v7", "linux/arm/v7"), rank("linux/arm/v6", "linux/arm")), (Some(0), Some(1)));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!((rank("linux/amd64", "linux/amd64/v3"), rank("linux/386", "linux/amd64")), (Some(2), Some(1)));
        assert_eq!((rank("windows/amd64", "linux/amd64"), rank("linux/arm64", "linux/amd64")), (None, None));
    }
}
