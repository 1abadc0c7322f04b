//! The formats of manifests: which one a client reads, and what each says of an image.
//!
//! Every text is a pure function of the version and of its files, with keys in a fixed order: its digest names it on
//! every node. ModelPack's (CNCF) is the one for clients in general: each file is a layer of its own bytes, with its
//! path in the annotations that `oras` and ModelPack's tools read. Docker's and Ollama's are of one GGUF file.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{ACCEPT, USER_AGENT},
};
use serde::Serialize;

use super::{
    facts::Facts,
    image::{Image, ImageFile},
    reference::Digest,
};
use crate::hub::{class, date};

/// How a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// CNCF ModelPack, in an OCI manifest.
    ModelPack,
    /// Docker's model runner, in an OCI manifest.
    Docker,
    /// Ollama, in a manifest of Docker's.
    Ollama,
}

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const TITLE: &str = "org.opencontainers.image.title";

/// A text that a manifest names, or that is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) media_type: &'static str,
    pub(super) bytes: Bytes,
    pub(super) digest: Digest,
}

/// A manifest, and the texts that it names.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) manifest: Text,
    pub(super) texts: Vec<Text>,
}

impl Format {
    /// What a client reads.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepted: Vec<&str> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| Some(range.split(';').next()?.trim()))
            .collect();
        let accepts = |media_type: &str| accepted.contains(&media_type);
        let agent = headers.get(USER_AGENT).map(|agent| agent.as_bytes());
        if agent.is_some_and(|agent| agent.starts_with(b"ollama/")) {
            return Self::Ollama;
        }
        if accepted
            .iter()
            .any(|range| range.starts_with("application/vnd.docker.ai."))
        {
            return Self::Docker;
        }
        match accepts(DOCKER_MANIFEST) && !accepts(OCI_MANIFEST) && !accepts("*/*") {
            true => Self::Ollama,
            false => Self::ModelPack,
        }
    }

    /// Whether its manifests are of a GGUF file.
    pub(super) fn is_gguf(self) -> bool {
        self != Self::ModelPack
    }

    /// Writes the manifest of an image; `facts` are those of its GGUF file, if it is one.
    pub(super) fn write(self, image: &Image, facts: Option<&Facts>) -> Written {
        let unknown = Facts::default();
        let facts = facts.unwrap_or(&unknown);
        match self {
            Self::ModelPack => modelpack(image),
            Self::Docker => docker(image, facts),
            Self::Ollama => ollama(image, facts),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

impl Text {
    fn of(media_type: &'static str, value: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(value).expect("keys are texts and numbers finite");
        Self::new(media_type, bytes)
    }

    fn new(media_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        Self {
            media_type,
            bytes,
            digest,
        }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type,
            digest: self.digest,
            size: self.bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }
}

impl ImageFile {
    fn descriptor(&self, media_type: &'static str) -> Descriptor {
        Descriptor {
            media_type,
            digest: self.digest,
            size: self.size,
            annotations: BTreeMap::new(),
        }
    }
}

/// An image's precision, where it is a variant.
fn precision(image: &Image) -> Option<String> {
    let variant = image.variant.as_ref()?;
    Some(variant.recipe.precision().to_ascii_uppercase())
}

fn annotations(image: &Image) -> BTreeMap<&'static str, String> {
    let doc = image.version.doc();
    let mut notes = BTreeMap::from([
        ("org.opencontainers.image.created", date(doc.time)),
        (
            "org.opencontainers.image.revision",
            image.version.id().to_hex(),
        ),
    ]);
    if let Some(license) = &doc.links.license {
        notes.insert("org.opencontainers.image.licenses", license.clone());
    }
    notes
}

/// <https://github.com/modelpack/model-spec>
fn modelpack(image: &Image) -> Written {
    #[derive(Serialize)]
    struct Config<'a> {
        descriptor: About<'a>,
        config: Kind<'a>,
        modelfs: Layers,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct About<'a> {
        created_at: String,
        name: &'a str,
        revision: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        licenses: Option<[&'a str; 1]>,
    }
    #[derive(Serialize)]
    struct Kind<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        precision: Option<&'a str>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Layers {
        r#type: &'static str,
        diff_ids: Vec<Digest>,
    }
    let doc = image.version.doc();
    let has = |extension: &str| {
        let mut paths = image.files.iter().map(|file| &file.path);
        paths.any(|path| path.to_ascii_lowercase().ends_with(extension))
    };
    let config = Text::of(
        "application/vnd.cncf.model.config.v1+json",
        &Config {
            descriptor: About {
                created_at: date(doc.time),
                name: &doc.model,
                revision: image.version.id().to_hex(),
                licenses: doc.links.license.as_deref().map(|license| [license]),
            },
            config: Kind {
                format: match (has(".safetensors"), has(".gguf")) {
                    (true, _) => Some("safetensors"),
                    (false, true) => Some("gguf"),
                    (false, false) => None,
                },
                precision: image.variant.as_ref().map(|at| at.recipe.precision()),
            },
            modelfs: Layers {
                r#type: "layers",
                diff_ids: image.files.iter().map(|file| file.digest).collect(),
            },
        },
    );
    let layer = |file: &ImageFile| {
        let path = &file.path;
        let annotations = BTreeMap::from([
            ("org.cncf.model.filepath", path.clone()),
            (TITLE, path.clone()),
        ]);
        Descriptor {
            annotations,
            ..file.descriptor(modelpack_type(path, file.size))
        }
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        artifact_type: Some("application/vnd.cncf.model.manifest.v1+json"),
        config: config.descriptor(),
        layers: image.files.iter().map(layer).collect(),
        annotations: annotations(image),
    };
    Written {
        manifest: Text::of(OCI_MANIFEST, &manifest),
        texts: vec![config],
    }
}

/// What ModelPack calls a file: weights, their configuration, documents or code.
fn modelpack_type(path: &str, size: u64) -> &'static str {
    const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
    const CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
    const DOC: &str = "application/vnd.cncf.model.doc.v1.raw";
    const CODE: &str = "application/vnd.cncf.model.code.v1.raw";
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let is_text = ["license", "readme", "notice", "copying"];
    if is_text.iter().any(|text| name.starts_with(text)) {
        return DOC;
    }
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        // SentencePiece's, and vocabularies in text.
        Some("model" | "json" | "jinja" | "txt" | "yaml" | "yml" | "toml") => CONFIG,
        Some("md" | "pdf" | "png" | "jpg" | "jpeg" | "svg" | "gif" | "rst") => DOC,
        Some("py" | "sh" | "ipynb" | "c" | "cpp" | "h" | "rs" | "js") => CODE,
        _ if class::is_lfs(path, size) => WEIGHT,
        _ => CONFIG,
    }
}

/// <https://github.com/docker/model-spec>
fn docker(image: &Image, facts: &Facts) -> Written {
    const GGUF: &str = "application/vnd.docker.ai.gguf.v3";
    const LICENSE: &str = "application/vnd.docker.ai.license";
    #[derive(Serialize)]
    struct Config {
        config: Kind,
        descriptor: About,
        rootfs: RootFs,
        files: Vec<FileAt>,
    }
    #[derive(Serialize)]
    struct Kind {
        format: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        quantization: Option<String>,
        parameters: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        architecture: Option<String>,
        size: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        created_at: String,
    }
    #[derive(Serialize)]
    struct FileAt {
        #[serde(rename = "diffID")]
        diff_id: Digest,
        r#type: &'static str,
    }
    let mut layers = Vec::new();
    layers.extend(image.files.iter().map(|file| file.descriptor(GGUF)));
    layers.extend(license(image).map(|file| file.descriptor(LICENSE)));
    let files = layers.iter().map(|layer| FileAt {
        diff_id: layer.digest,
        r#type: layer.media_type,
    });
    let config = Text::of(
        "application/vnd.docker.ai.model.config.v0.1+json",
        &Config {
            config: Kind {
                format: "gguf",
                quantization: facts.precision.clone().or_else(|| precision(image)),
                parameters: facts.size(),
                architecture: facts.architecture.clone(),
                size: image
                    .files
                    .iter()
                    .map(|file| file.size)
                    .sum::<u64>()
                    .to_string(),
            },
            descriptor: About {
                created_at: date(image.version.doc().time),
            },
            rootfs: RootFs::of("rootfs", &layers),
            files: files.collect(),
        },
    );
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        artifact_type: None,
        config: config.descriptor(),
        layers,
        annotations: annotations(image),
    };
    Written {
        manifest: Text::of(OCI_MANIFEST, &manifest),
        texts: vec![config],
    }
}

#[derive(Debug, Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: Vec<Digest>,
}

impl RootFs {
    fn of(r#type: &'static str, layers: &[Descriptor]) -> Self {
        let diff_ids = layers.iter().map(|layer| layer.digest).collect();
        Self { r#type, diff_ids }
    }
}

/// As the registry of Ollama answers; recorded from its client.
fn ollama(image: &Image, facts: &Facts) -> Written {
    #[derive(Serialize)]
    struct Config {
        model_format: &'static str,
        model_family: String,
        model_families: [String; 1],
        model_type: String,
        file_type: String,
        architecture: &'static str,
        os: &'static str,
        rootfs: RootFs,
    }
    let model = "application/vnd.ollama.image.model";
    let mut layers = Vec::new();
    layers.extend(image.files.iter().map(|file| file.descriptor(model)));
    layers
        .extend(license(image).map(|file| file.descriptor("application/vnd.ollama.image.license")));
    let mut texts = Vec::new();
    if !facts.sampling.is_empty() {
        let sampling = facts.sampling.clone().into_bytes();
        let text = Text::new("application/vnd.ollama.image.params", sampling);
        layers.push(text.descriptor());
        texts.push(text);
    }
    let family = facts
        .architecture
        .clone()
        .unwrap_or_else(|| "unknown".to_owned());
    let precision = facts.precision.clone().or_else(|| precision(image));
    let config = Text::of(
        "application/vnd.docker.container.image.v1+json",
        &Config {
            model_format: "gguf",
            model_families: [family.clone()],
            model_family: family,
            model_type: facts.size(),
            file_type: precision.unwrap_or_else(|| "unknown".to_owned()),
            architecture: "amd64",
            os: "linux",
            rootfs: RootFs::of("layers", &layers),
        },
    );
    let manifest = Manifest {
        schema_version: 2,
        media_type: DOCKER_MANIFEST,
        artifact_type: None,
        config: config.descriptor(),
        layers,
        annotations: BTreeMap::new(),
    };
    texts.push(config);
    Written {
        manifest: Text::of(DOCKER_MANIFEST, &manifest),
        texts,
    }
}

/// The license among the version's files.
pub(super) fn license(image: &Image) -> Option<ImageFile> {
    let files = image.version.tree().files();
    let at = files.iter().position(|file| {
        let plain = file.mode != lode_store::tree::Mode::Link;
        plain && matches!(&file.path[..], "LICENSE" | "LICENSE.txt" | "LICENSE.md")
    })?;
    let file = &files[at];
    Some(ImageFile {
        path: file.path.clone(),
        size: file.size,
        digest: Digest::new(file.sha256),
        at: super::image::At::Stored(at),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn a_client_gets_what_it_reads() {
        let format = |agent: &'static str, accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            Format::of(&headers)
        };
        assert_eq!(format("curl/8", &[]), Format::ModelPack);
        assert_eq!(format("curl/8", &["*/*"]), Format::ModelPack);
        assert_eq!(format("x", &[DOCKER_MANIFEST]), Format::Ollama);
        assert_eq!(format("ollama/0.9 (amd64 linux)", &[]), Format::Ollama);
        let both = "application/vnd.docker.distribution.manifest.v2+json;q=0.5, application/vnd.oci.image.manifest.v1+json";
        assert_eq!(format("oras", &[both]), Format::ModelPack);
        assert_eq!(
            format("oras", &[DOCKER_MANIFEST, OCI_MANIFEST]),
            Format::ModelPack
        );
        let docker = "application/vnd.docker.ai.model.config.v0.1+json";
        assert_eq!(format("x", &[OCI_MANIFEST, docker]), Format::Docker);
    }

    #[test]
    fn a_file_is_of_the_class_that_modelpack_gives_it() {
        for (path, class) in [
            ("model.safetensors", "weight.v1"),
            ("a/B.GGUF", "weight.v1"),
            ("tokenizer.model", "weight.config.v1"),
            ("config.json", "weight.config.v1"),
            ("odd", "weight.config.v1"),
            ("LICENSE", "doc.v1"),
            ("README.md", "doc.v1"),
            ("modeling.py", "code.v1"),
        ] {
            let expected = format!("application/vnd.cncf.model.{class}.raw");
            assert_eq!(modelpack_type(path, 1), expected, "{path}");
        }
    }
}
