//! An image, packed in one of the ways images travel, from the choices of a draft.

use std::path::{Path, PathBuf};

use super::documents::{self, Documents, oci_path};
use super::draft::{Choices, Draft, Part, Token};
use super::layer;
use super::members::{self, Member};
use crate::support::image::sha256;

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packaging {
    OciDirectory,
    DockerArchive,
    OciArchive,
    SkopeoDirectory,
}

impl Packaging {
    /// The transport's name, which is the same in skopeo and in layersift.
    pub fn transport(self) -> &'static str {
        match self {
            Packaging::OciDirectory => "oci",
            Packaging::DockerArchive => "docker-archive",
            Packaging::OciArchive => "oci-archive",
            Packaging::SkopeoDirectory => "dir",
        }
    }

    fn choose(draft: &mut Draft) -> Packaging {
        let usual = [Packaging::OciDirectory, Packaging::DockerArchive, Packaging::OciArchive];
        match draft.below(8) {
            7 => Packaging::SkopeoDirectory,
            other => usual[other % 3],
        }
    }

    fn is_archive(self) -> bool {
        matches!(self, Packaging::DockerArchive | Packaging::OciArchive)
    }
}

/// How the program is told where the image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Transport,
    Path,
    StandardInput,
}

impl Form {
    fn choose(draft: &mut Draft) -> Form {
        *draft.pick(&[Form::Transport, Form::Path, Form::StandardInput])
    }

    /// This one where the image can be given in it.
    fn possible(self, packaging: Packaging, has_reference: bool) -> Form {
        let is_possible = !has_reference && (self != Form::StandardInput || packaging.is_archive());
        if is_possible { self } else { Form::Transport }
    }
}

/// An image that was made, and what it was made from.
pub struct Image {
    pub seed: u64,
    pub choices: Choices,
    pub packaging: Packaging,
    pub form: Form,
    pub reference: Option<String>,
    pub tokens: Vec<Token>,
    pub mutations: Vec<String>,
    content: Content,
}

enum Content {
    Archive(Vec<u8>),
    Directory(Vec<Member>),
}

impl Image {
    /// The image of a seed.
    pub fn random(seed: u64) -> Image {
        Image::from_draft(seed, Draft::random(seed))
    }

    /// The image that these choices make.
    pub fn replay(seed: u64, choices: &Choices) -> Image {
        Image::from_draft(seed, Draft::replay(seed, choices))
    }

    fn from_draft(seed: u64, mut draft: Draft) -> Image {
        let mut amount = Amount::choose(&mut draft);
        let packaging = Packaging::choose(&mut draft);
        let form = Form::choose(&mut draft);
        let layers = layer::layers(&mut draft, amount.layers);
        let mut documents = documents::documents(&mut draft, layers, amount.documents);
        draft.begin(Part::List);
        let (members, reference) = match packaging {
            Packaging::OciDirectory | Packaging::OciArchive => oci(&mut draft, &mut documents, &mut amount),
            Packaging::DockerArchive => docker(&mut draft, &documents, &mut amount),
            Packaging::SkopeoDirectory => skopeo(&mut draft, &mut documents, amount),
        };
        draft.begin(Part::Members);
        let content = if packaging.is_archive() {
            Content::Archive(members::archive(&mut draft, members, amount.members))
        } else {
            Content::Directory(members::directory(&mut draft, members, amount.members))
        };
        let form = form.possible(packaging, reference.is_some());
        Image {
            seed,
            packaging,
            form,
            reference,
            content,
            choices: draft.taken,
            tokens: draft.tokens,
            mutations: draft.mutations.into_iter().collect(),
        }
    }

    /// Writes it below `folder`, and says where it is.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(if self.packaging.is_archive() { "image.tar" } else { "image" });
        match &self.content {
            Content::Archive(bytes) => std::fs::write(&path, bytes).unwrap(),
            Content::Directory(members) => members.iter().for_each(|member| member.write(&path)),
        }
        path
    }
}

/// How many mutations each part gets. Few, because one of them may hide the others.
#[derive(Clone, Copy, Default)]
struct Amount {
    layers: layer::Amount,
    documents: documents::Amount,
    members: usize,
}

impl Amount {
    fn choose(draft: &mut Draft) -> Amount {
        let mut amount = Amount::default();
        for _ in 0..*draft.pick(&[1, 1, 1, 2, 2, 3]) {
            let part = match draft.below(17) {
                0 => continue,
                1..=4 => &mut amount.layers.entries,
                5 => &mut amount.layers.structure,
                6 | 7 => &mut amount.layers.framing,
                8 | 9 => &mut amount.documents.config,
                10 | 11 => &mut amount.documents.manifest,
                12..=14 => &mut amount.documents.list,
                _ => &mut amount.members,
            };
            *part += 1;
        }
        amount
    }
}

fn oci(draft: &mut Draft, documents: &mut Documents, amount: &mut Amount) -> (Vec<Member>, Option<String>) {
    let (index, reference) = documents.index(draft, amount.documents.list);
    let mut members: Vec<Member> =
        documents.blobs().into_iter().map(|blob| Member::new(&oci_path(&blob), blob)).collect();
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    members.insert(0, Member::new("oci-layout", version));
    members.insert(1, Member::new("index.json", index));
    if amount.members > 0 && draft.chance(30) {
        amount.members -= 1;
        draft.note("manifest.json of the decoy besides index.json");
        members.push(Member::new("manifest.json", decoy_list(documents, oci_path)));
    }
    (members, reference)
}

fn docker(draft: &mut Draft, documents: &Documents, amount: &mut Amount) -> (Vec<Member>, Option<String>) {
    let naming = *draft.pick(&["tar", "blobs", "folder"]);
    let path = move |blob: &[u8]| match (naming, blob.first()) {
        ("blobs", _) => oci_path(blob),
        (_, Some(b'{')) => format!("{}.json", sha256(blob)),
        ("tar", _) => format!("{}.tar", sha256(blob)),
        _ => format!("{}/layer.tar", sha256(blob)),
    };
    let mut blobs = documents.blobs();
    blobs.retain(|blob| *blob != documents.manifest && *blob != documents.decoy_manifest);
    let mut members: Vec<Member> = blobs.into_iter().map(|blob| Member::new(&path(&blob), blob)).collect();
    let list = documents.docker_list(draft, path, amount.documents.list);
    members.push(Member::new("manifest.json", list));
    if amount.members > 0 && draft.chance(40) {
        amount.members -= 1;
        match *draft.mutate("besides manifest.json", &[("nothing", 0), ("index.json", 1), ("another manifest.json", 2)])
        {
            0 => {}
            1 => members.extend(decoy_layout(documents)),
            _ => {
                let at = draft.below(2) * members.len();
                members.insert(at, Member::new("manifest.json", decoy_list(documents, path)));
            }
        }
    }
    (members, None)
}

/// A list as `docker save` writes it, of the decoy alone.
fn decoy_list(documents: &Documents, path: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let (config, layer) = (path(&documents.decoy_config), path(&documents.decoy.blob));
    format!(r#"[{{"Config":"{config}","RepoTags":["app:1.0"],"Layers":["{layer}"]}}]"#).into_bytes()
}

/// What makes an OCI layout of an archive, with the decoy in it.
fn decoy_layout(documents: &Documents) -> Vec<Member> {
    use crate::support::image::{MANIFEST, bytes, descriptor, index};
    let index = bytes(&index(&[descriptor(MANIFEST, &documents.decoy_manifest)]));
    let blobs = [&documents.decoy_manifest, &documents.decoy_config, &documents.decoy.blob];
    let mut members: Vec<Member> = blobs.map(|blob| Member::new(&oci_path(blob), blob.clone())).into();
    members.push(Member::new("index.json", index));
    members.push(Member::new("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    members
}

fn skopeo(draft: &mut Draft, documents: &mut Documents, amount: Amount) -> (Vec<Member>, Option<String>) {
    let mut top = documents.manifest.clone();
    if amount.documents.list > 0 && draft.chance(60) {
        draft.note("an index in a directory of skopeo");
        top = documents.inner_index(draft);
    }
    let mut members: Vec<Member> =
        documents.blobs().into_iter().map(|blob| Member::new(&sha256(&blob), blob)).collect();
    for manifest in [&documents.manifest, &documents.decoy_manifest] {
        members.push(Member::new(&format!("{}.manifest.json", sha256(manifest)), manifest.clone()));
    }
    members.push(Member::new("version", b"Directory Transport Version: 1.1\n".to_vec()));
    members.push(Member::new("manifest.json", top));
    (members, None)
}
