//! Where things stand in a review, and a walk along these paths while the body passes by. Everything else is skipped
//! without being kept.
//!
//! Objects are read by their shape, not by their kind: what has a pod template where one of Kubernetes' own kinds has
//! it is judged as well, such as a `Rollout` or a `Service` of Knative. Names are compared exactly, as Kubernetes does.

use super::review::{Problem, ReviewLimits};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A place in a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Review,
    Request,
    Kind,
    Resource,
    User,
    DryRun,
    Text(Text),
    Object(Side),
    Spec,
    Template,
    JobTemplate,
    JobSpec,
    Data,
    DataSpec,
    PodSpec,
    Containers,
    Container,
    Volumes,
    Volume,
    VolumeImage,
    Reference,
}

/// The texts that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    ApiVersion,
    ReviewKind,
    Uid,
    KindGroup,
    KindVersion,
    Kind,
    ResourceGroup,
    ResourceVersion,
    Resource,
    SubResource,
    Name,
    Namespace,
    Operation,
    Username,
}

/// The object as it would be, and as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    #[default]
    New,
    Old,
}

const TEXTS: usize = Text::Username as usize + 1;

impl Node {
    /// What is read inside an object at this place.
    fn fields(self) -> &'static [(&'static str, Node)] {
        match self {
            Node::Review => &[
                ("apiVersion", Node::Text(Text::ApiVersion)),
                ("kind", Node::Text(Text::ReviewKind)),
                ("request", Node::Request),
            ],
            Node::Request => &[
                ("uid", Node::Text(Text::Uid)),
                ("kind", Node::Kind),
                ("resource", Node::Resource),
                ("subResource", Node::Text(Text::SubResource)),
                ("name", Node::Text(Text::Name)),
                ("namespace", Node::Text(Text::Namespace)),
                ("operation", Node::Text(Text::Operation)),
                ("userInfo", Node::User),
                ("dryRun", Node::DryRun),
                ("object", Node::Object(Side::New)),
                ("oldObject", Node::Object(Side::Old)),
            ],
            Node::Kind => &[
                ("group", Node::Text(Text::KindGroup)),
                ("version", Node::Text(Text::KindVersion)),
                ("kind", Node::Text(Text::Kind)),
            ],
            Node::Resource => &[
                ("group", Node::Text(Text::ResourceGroup)),
                ("version", Node::Text(Text::ResourceVersion)),
                ("resource", Node::Text(Text::Resource)),
            ],
            Node::User => &[("username", Node::Text(Text::Username))],
            // A PodTemplate has its template where others have `spec`, a ControllerRevision keeps a patch in `data`.
            Node::Object(_) => &[("spec", Node::Spec), ("template", Node::Template), ("data", Node::Data)],
            // Of a pod, or of what has a template.
            Node::Spec => &[
                ("containers", Node::Containers),
                ("initContainers", Node::Containers),
                ("ephemeralContainers", Node::Containers),
                ("volumes", Node::Volumes),
                ("template", Node::Template),
                ("jobTemplate", Node::JobTemplate),
            ],
            Node::Template => &[("spec", Node::PodSpec)],
            Node::JobTemplate => &[("spec", Node::JobSpec)],
            Node::JobSpec | Node::DataSpec => &[("template", Node::Template)],
            Node::Data => &[("spec", Node::DataSpec)],
            Node::PodSpec => &[
                ("containers", Node::Containers),
                ("initContainers", Node::Containers),
                ("ephemeralContainers", Node::Containers),
                ("volumes", Node::Volumes),
            ],
            Node::Container => &[("image", Node::Reference)],
            // `rbd.image` is a disk.
            Node::Volume => &[("image", Node::VolumeImage)],
            Node::VolumeImage => &[("reference", Node::Reference)],
            Node::Containers | Node::Volumes | Node::Reference | Node::Text(_) | Node::DryRun => &[],
        }
    }

    /// What an item of a list at this place is.
    fn item(self) -> Option<Node> {
        match self {
            Node::Containers => Some(Node::Container),
            Node::Volumes => Some(Node::Volume),
            _ => None,
        }
    }
}

/// What was found.
pub(super) struct Found {
    limits: ReviewLimits,
    /// Where the walk is.
    path: String,
    side: Option<Side>,
    texts: [Option<String>; TEXTS],
    pub(super) is_dry_run: bool,
    pub(super) new: Images,
    pub(super) old: Images,
    /// The first thing that makes the review unreadable. The walk goes on after it, as the uid may follow.
    pub(super) problem: Option<Problem>,
}

/// The image references of an object, in their order.
#[derive(Default)]
pub(super) struct Images {
    pub(super) uses: Vec<Use>,
    /// Some object on the way to them has a field twice: they may be more than the last one of each.
    pub(super) has_duplicates: bool,
    /// The first place that has a value of another type than it has in Kubernetes' own kinds.
    pub(super) unexpected: Option<String>,
}

/// One place with an image reference.
pub(super) struct Use {
    pub(super) reference: String,
    pub(super) path: String,
}

impl Found {
    pub(super) fn new(limits: &ReviewLimits) -> Found {
        Found {
            limits: *limits,
            path: String::new(),
            side: None,
            texts: Default::default(),
            is_dry_run: false,
            new: Images::default(),
            old: Images::default(),
            problem: None,
        }
    }

    /// Takes a text out; empty if there is none.
    pub(super) fn take(&mut self, text: Text) -> String {
        self.texts[text as usize].take().unwrap_or_default()
    }

    /// Whether a text was read.
    pub(super) fn has(&self, text: Text) -> bool {
        self.texts[text as usize].is_some()
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problem.get_or_insert(problem);
    }

    fn images(&mut self) -> Option<&mut Images> {
        match self.side? {
            Side::New => Some(&mut self.new),
            Side::Old => Some(&mut self.old),
        }
    }

    fn string(&mut self, node: Node, value: &str) {
        let limits = self.limits;
        match node {
            Node::Text(_) | Node::Reference if value.len() > limits.text_bytes => {
                let path = self.path.clone();
                self.report(Problem::Text { path, limit: limits.text_bytes });
            }
            Node::Text(text) => self.texts[text as usize] = Some(value.into()),
            Node::Reference => self.reference(value),
            _ => self.unexpected(),
        }
    }

    fn reference(&mut self, value: &str) {
        let limit = self.limits.images;
        let path = self.path.clone();
        let Some(images) = self.images() else { return };
        if images.uses.len() >= limit {
            return self.report(Problem::Images(limit));
        }
        images.uses.push(Use { reference: value.into(), path });
    }

    /// A value of a type that does not belong where the walk is.
    fn unexpected(&mut self) {
        let path = self.path.clone();
        match self.images() {
            Some(images) => drop(images.unexpected.get_or_insert(path)),
            None => self.report(Problem::Unexpected(path)),
        }
    }

    fn duplicate(&mut self) {
        let path = self.path.clone();
        match self.images() {
            Some(images) => images.has_duplicates = true,
            None => self.report(Problem::Duplicate(path)),
        }
    }
}

/// Reads the value at a place.
pub(super) struct Walk<'f> {
    pub(super) node: Node,
    pub(super) found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Node::Object(side) = self.node else { return deserializer.deserialize_any(self) };
        self.found.side = Some(side);
        let done = deserializer.deserialize_any(Walk { node: self.node, found: self.found });
        self.found.side = None;
        done
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = self.node.fields();
        if fields.is_empty() {
            self.found.unexpected();
        }
        let parent = self.found.path.len();
        let mut seen = 0_u32;
        while let Some(known) = map.next_key_seed(Key(fields))? {
            let Some(at) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let (name, node) = fields[at];
            self.found.path.push_str(if parent > 0 { "." } else { "" });
            self.found.path.push_str(name);
            if seen & 1 << at != 0 {
                self.found.duplicate();
            }
            seen |= 1 << at;
            map.next_value_seed(Walk { node, found: self.found })?;
            self.found.path.truncate(parent);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some(node) = self.node.item() else {
            self.found.unexpected();
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let parent = self.found.path.len();
        for index in 0_usize.. {
            self.found.path.push_str(&format!("[{index}]"));
            let item = list.next_element_seed(Walk { node, found: self.found })?;
            self.found.path.truncate(parent);
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.found.string(self.node, value);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        match self.node {
            Node::DryRun => self.found.is_dry_run = value,
            _ => self.found.unexpected(),
        }
        Ok(())
    }

    /// `null`, which is the same as nothing.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.found.unexpected();
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.found.unexpected();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.found.unexpected();
        Ok(())
    }
}

/// Reads a name: its index among those that are looked for.
struct Key(&'static [(&'static str, Node)]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|(known, _)| *known == name))
    }
}
