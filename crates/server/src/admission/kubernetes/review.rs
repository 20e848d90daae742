//! An AdmissionReview, read from a stream: who asks, for what, and which images it would run. Of a body of 18 megabytes
//! some kilobytes are kept.

use layersift_model::ParseError;

use super::images::{Found, Images, Node, Text, Walk};
use crate::admission::bounded_json::{BoundedJson, OverBound};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{BufReader, Read};

/// The versions of AdmissionReview that are read. They do not differ in what is read here.
const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];

/// Kinds of Kubernetes itself with a pod spec: a value of another type in there is not explained by another schema.
const OWN_KINDS: [(&str, &[&str]); 3] = [
    ("", &["Pod", "ReplicationController", "PodTemplate"]),
    ("apps", &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]),
    ("batch", &["Job", "CronJob"]),
];

/// The bounds of a review. What goes over one is an error, which is answered with a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReviewLimits {
    /// Bytes of the body. The API server takes objects of 3 MiB and may write each byte as six, and an update carries
    /// the old object too.
    pub body_bytes: u64,
    /// Objects and lists inside each other.
    pub depth: usize,
    /// Places with an image reference, in the object and in the old object each.
    pub images: usize,
    /// Bytes of an image reference, of the uid, of a name, of a user's name.
    pub text_bytes: usize,
}

impl Default for ReviewLimits {
    fn default() -> ReviewLimits {
        ReviewLimits { body_bytes: 32 << 20, depth: 512, images: 1_000, text_bytes: 1_024 }
    }
}

/// What an answer repeats from its question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `admission.k8s.io/v1` or `admission.k8s.io/v1beta1`.
    pub api_version: String,
    /// The request's identifier, byte for byte.
    pub uid: String,
}

/// A question whether something may happen in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// What the answer repeats.
    pub head: Head,
    /// The kind of the object, such as ``apps/v1 Deployment``.
    pub kind: TypeName,
    /// The resource, such as ``apps/v1 deployments``.
    pub resource: TypeName,
    /// Such as `ephemeralcontainers`; empty for the resource itself.
    pub sub_resource: String,
    /// The name of the object.
    pub name: String,
    /// Its namespace; empty for what is in none.
    pub namespace: String,
    /// What would happen to it.
    pub operation: Operation,
    /// Whether nothing is kept: nothing may be queued for it either.
    pub is_dry_run: bool,
    /// Who asks: of a pod, mostly a controller.
    pub username: String,
    /// The images to judge, each once, in the order of the object.
    pub images: Vec<Image>,
}

/// The name of a kind or of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeName {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind or the resource.
    pub name: String,
}

/// What would happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed: only images that it does not have yet are judged.
    Update,
    /// It is removed, which is not judged.
    Delete,
    /// Something connects to it.
    Connect,
    /// Anything else, which is judged as if it made the object.
    Other,
}

impl Operation {
    /// The operation as it is written in the log of decisions.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Connect => "connect",
            Operation::Other => "other",
        }
    }
}

impl fmt::Display for TypeName {
    /// Such as `apps/v1 Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TypeName { group, version, name } = self;
        if group.is_empty() { write!(f, "{version} {name}") } else { write!(f, "{group}/{version} {name}") }
    }
}

/// An image that an object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The reference as it stands there, which may be any text.
    pub reference: String,
    /// Where it stands, such as `spec.template.spec.containers[0].image`.
    pub paths: Vec<String>,
}

/// Why a review cannot be judged. It is denied, or if even its uid is unknown, not answered.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct ReviewError {
    /// What an answer needs, if it was read.
    pub head: Option<Box<Head>>,
    /// The namespace, if it was read: empty for what is in none. Rules of a place hold for what cannot be judged there.
    pub namespace: Option<String>,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a review.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be received, or it is not JSON.
    #[error("the body cannot be read: {0}")]
    Json(#[from] ParseError),
    /// It goes over a bound of all bodies.
    #[error(transparent)]
    Bound(#[from] OverBound),
    /// It has more image references than the limit.
    #[error("the object has more than {0} image references")]
    Images(usize),
    /// A text is longer than the limit.
    #[error("{path} is longer than {limit} bytes")]
    Text {
        /// Where it stands.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// A value has another type than it has in Kubernetes.
    #[error("{0} has an unexpected type")]
    Unexpected(String),
    /// A field that has one value has two.
    #[error("{0} is given twice")]
    Duplicate(String),
    /// It is something else than an AdmissionReview with a request, of a version that is known.
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1 with a request and its uid")]
    NotAReview,
}

/// Reads a review from a stream. A client that sends less than it announced is an error, as are all bounds.
pub fn read(body: impl Read, limits: &ReviewLimits) -> Result<Review, ReviewError> {
    let mut bounded = BoundedJson::new(body, limits.body_bytes, limits.depth, limits.text_bytes);
    let mut found = Found::new(limits);
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut bounded));
    let walked = serde::de::DeserializeSeed::deserialize(Walk { node: Node::Review, found: &mut found }, &mut json)
        .and_then(|()| json.end());
    drop(json);
    if let Some(over) = bounded.over_bound() {
        found.report(over.into());
    }
    if let Err(error) = walked {
        found.report(ParseError::from(error).into());
    }
    let head = head(&mut found);
    let has_namespace = found.has(Text::Namespace);
    let review = review(&mut found);
    match (found.problem, head) {
        (None, Some(head)) => Ok(Review { head, ..review }),
        (problem, head) => Err(ReviewError {
            problem: problem.unwrap_or(Problem::NotAReview),
            head: head.map(Box::new),
            namespace: has_namespace.then_some(review.namespace),
        }),
    }
}

fn head(found: &mut Found) -> Option<Head> {
    let (kind, api_version, uid) = (found.take(Text::ReviewKind), found.take(Text::ApiVersion), found.take(Text::Uid));
    (kind == "AdmissionReview" && VERSIONS.contains(&&api_version[..]) && !uid.is_empty())
        .then_some(Head { api_version, uid })
}

/// Everything but the head.
fn review(found: &mut Found) -> Review {
    let mut name = |group, version, name| TypeName {
        group: found.take(group),
        version: found.take(version),
        name: found.take(name),
    };
    let kind = name(Text::KindGroup, Text::KindVersion, Text::Kind);
    let resource = name(Text::ResourceGroup, Text::ResourceVersion, Text::Resource);
    let operation = match &found.take(Text::Operation)[..] {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        "CONNECT" => Operation::Connect,
        _ => Operation::Other,
    };
    let is_own = OWN_KINDS.iter().any(|(group, kinds)| *group == kind.group && kinds.contains(&&kind.name[..]));
    if let Some(path) = found.new.unexpected.take().filter(|_| is_own && operation != Operation::Delete) {
        found.report(Problem::Unexpected(path));
    }
    let images = match operation {
        Operation::Delete => Vec::new(),
        Operation::Update => new_images(&found.new, &found.old),
        Operation::Create | Operation::Connect | Operation::Other => new_images(&found.new, &Images::default()),
    };
    Review {
        head: Head { api_version: String::new(), uid: String::new() },
        kind,
        resource,
        sub_resource: found.take(Text::SubResource),
        name: found.take(Text::Name),
        namespace: found.take(Text::Namespace),
        operation,
        is_dry_run: found.is_dry_run,
        username: found.take(Text::Username),
        images,
    }
}

/// The images of `new` that are not in `old`. An old object that can be read in two ways counts for nothing.
fn new_images(new: &Images, old: &Images) -> Vec<Image> {
    let known: HashSet<&str> = match old.has_duplicates {
        true => HashSet::new(),
        false => old.uses.iter().map(|used| &used.reference[..]).collect(),
    };
    let mut images: Vec<Image> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for used in new.uses.iter().filter(|used| !known.contains(&used.reference[..])) {
        let at = *index.entry(&used.reference).or_insert_with(|| {
            images.push(Image { reference: used.reference.clone(), paths: Vec::new() });
            images.len() - 1
        });
        let path = used.path.strip_prefix("request.object.").unwrap_or(&used.path);
        images[at].paths.push(path.into());
    }
    images
}

#[cfg(test)]
mod tests;
