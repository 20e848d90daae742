//! Images that fail, saved to be looked at.

use std::path::{Path, PathBuf};

use super::shrink::Class;

/// Where they are saved.
pub fn folder() -> PathBuf {
    match std::env::var_os("LAYERSIFT_DIFFERENTIAL_CORPUS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("differential"),
    }
}

/// Saves a shrunk image, with what is to be known about it.
pub fn save(class: &Class) {
    let folder = folder().join(format!("seed-{}", class.image.seed));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    class.image.write(&folder);
    std::fs::write(folder.join("about.txt"), about(class)).unwrap();
}

fn about(class: &Class) -> String {
    let image = &class.image;
    let mut text = format!("class: {}\nreason: {}\nseed: {}\n", class.name(), class.failure.reason, image.seed);
    text += &format!("transport: {}\nreference: {:?}\n", image.packaging.transport(), image.reference);
    text += &format!("choices: {:?}\n", image.choices);
    for token in &image.tokens {
        text += &format!("token: {} in {}\n", token.text, token.place);
    }
    text
}
