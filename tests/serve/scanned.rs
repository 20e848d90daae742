//! A service that has scanned the image of the incident.

use std::process::Command;

use crate::running::{Answer, Client, Running, Site, eventually};
use crate::support::image::{INDEX, bytes, descriptor, digest, index};
use crate::support::registry::{Registry, run};
use serde_json::{Value, json};

/// A service, its registry with the image as `team/app:v1`, and a client that may do anything but ask for admission.
pub struct Scanned {
    pub site: Site,
    pub running: Running,
    pub registry: Registry,
    pub client: Client,
    /// The digest of the image's manifest.
    pub digest: String,
}

impl Scanned {
    /// Starts them with more `settings`, and waits until the image is scanned.
    pub fn start(site: Site, settings: &str) -> Scanned {
        let registry = Registry::filled(&["team/app:v1"]);
        let running = site.start_for(&registry.host(), settings);
        let client = running.client(&site.token(&["scan", "read", "admin"]));
        let scan = scan(&client, &format!("{}/team/app:v1", registry.host()));
        let digest = scan["digest"].as_str().unwrap().to_string();
        Scanned { site, running, registry, client, digest }
    }

    /// The reference of the image.
    pub fn image(&self) -> String {
        format!("{}/team/app:v1", self.registry.host())
    }

    /// A path below that of the image.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/v1/images/{}{rest}", self.digest)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client.get(path)
    }

    /// Pushes an index of the image as `name`, and gives the digest of the index.
    pub fn push_index(&self, name: &str) -> String {
        let (repository, tag) = name.split_once(':').unwrap();
        let mut inspect = Command::new("skopeo");
        inspect.args(["inspect", "--raw", "--tls-verify=false"]).arg(format!("docker://{}", self.image()));
        let manifest = run(&mut inspect);
        let media_type = serde_json::from_slice::<Value>(&manifest).unwrap()["mediaType"].clone();
        let index = bytes(&index(&[descriptor(media_type.as_str().unwrap(), &manifest)]));
        self.registry.put_manifest(repository, tag, INDEX, &index);
        digest(&index)
    }
}

/// Has an image scanned, and gives the scan once it is done.
#[track_caller]
pub fn scan(client: &Client, image: &str) -> Value {
    let answer = client.post("/api/v1/scans", &json!({ "image": image }));
    assert!([200, 202].contains(&answer.status), "{}", answer.text());
    let path = answer.header("location").to_string();
    eventually("the scan", || {
        let scan = client.get(&path).expect(200).json();
        assert!(scan["state"] != "failed", "{scan}");
        (scan["state"] == "done").then_some(scan)
    })
}
