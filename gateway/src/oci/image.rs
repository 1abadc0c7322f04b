//! What a tag names: the files of a version, one GGUF file of it, or the files of a variant, each with its digest.

use std::sync::Arc;

use lode_node::{
    command::{Failure, FailureKind},
    variants::{self, Recipe, VariantAt},
};
use lode_store::{VersionId, tree::Tree};

use super::{format::Format, name::Repository, reference::Digest};
use crate::{
    answer::Problem,
    body::Source,
    dialect::REVISION_NOT_FOUND,
    hub::{
        files::{Files, Place},
        repo::{VARIANT_SEPARATOR, head},
    },
    limits::OCI_LAYERS_MAX,
    reader::{OpenModel, OpenVersion, Reader},
};

/// The tag of what clients ask for that name none.
pub(super) const LATEST: &str = "latest";
/// The variant of who wants a GGUF file and does not say which.
const PRECISION: &str = "q4_k_m";

/// What a tag names.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) version: OpenVersion,
    /// By path.
    pub(super) files: Vec<ImageFile>,
    /// The variant whose files these are.
    pub(super) variant: Option<Arc<VariantAt>>,
}

/// A file of an image.
#[derive(Debug, Clone)]
pub(super) struct ImageFile {
    pub(super) path: String,
    /// Length in bytes.
    pub(super) size: u64,
    pub(super) digest: Digest,
    pub(super) at: At,
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// The file of the version at this position.
    Stored(usize),
    /// The file at this position of what a recipe makes of the version.
    Made(Recipe, usize),
}

/// What of a version is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// All of its files.
    All,
    /// The GGUF file at this position.
    Gguf(usize),
    /// What is made of it.
    Variant(Recipe),
}

impl Repository {
    /// What a tag names, for clients of a format.
    ///
    /// # Errors
    /// 404 when it names nothing, 503 while a variant of which no digest is known is being made.
    pub(super) async fn image(
        &self,
        reader: &Reader,
        tag: &str,
        format: Format,
    ) -> Result<Image, Problem> {
        let (version, choice) = self.chosen(reader, tag, format).await?;
        Image::of(reader, &self.model, version, choice).await
    }

    async fn chosen(
        &self,
        reader: &Reader,
        tag: &str,
        format: Format,
    ) -> Result<(OpenVersion, Choice), Problem> {
        let gguf = self.gguf || format.is_gguf();
        let refs = self.model.refs().await?;
        if refs.iter().any(|at| at.name == tag) {
            let version = self.version(reader, tag).await?;
            let choice = default(version.tree(), gguf, tag)?;
            return Ok((version, choice));
        }
        let main = head(&refs).map_or("main", |head| &head.name);
        if tag == LATEST {
            let version = self.version(reader, main).await?;
            let choice = default(version.tree(), gguf, tag)?;
            return Ok((version, choice));
        }
        if let Some((rev, variant)) = tag.split_once(VARIANT_SEPARATOR) {
            let version = self.version(reader, rev).await?;
            let choice = named(version.tree(), gguf, variant)?;
            return Ok((version, choice));
        }
        match self.version(reader, main).await {
            Ok(version) => {
                if let Ok(choice) = named(version.tree(), gguf, tag) {
                    return Ok((version, choice));
                }
            }
            Err(problem) if problem.kind() == FailureKind::NotFound => {}
            Err(problem) => return Err(problem),
        }
        let version = self.version(reader, tag).await?;
        let choice = default(version.tree(), gguf, tag)?;
        Ok((version, choice))
    }

    async fn version(&self, reader: &Reader, rev: &str) -> Result<OpenVersion, Problem> {
        let at = self.model.at();
        let publisher = at.publisher.to_hex();
        reader.first_version(&publisher, &at.model, &[rev]).await
    }
}

/// What of a version is meant where no variant is named.
fn default(tree: &Tree, gguf: bool, tag: &str) -> Result<Choice, Problem> {
    if !gguf {
        return Ok(Choice::All);
    }
    let stored = gguf_files(tree);
    let usual = || {
        stored
            .iter()
            .find(|(_, stem)| is_precision(stem, PRECISION))
    };
    if let Some((at, _)) = usual().or_else(|| stored.first()) {
        return Ok(Choice::Gguf(*at));
    }
    named(tree, true, PRECISION)
        .map_err(|_| absent(tag, "no GGUF file, and none can be made of it"))
}

/// What of a version a variant's name means.
fn named(tree: &Tree, gguf: bool, name: &str) -> Result<Choice, Problem> {
    let wanted = name.to_ascii_lowercase();
    if gguf {
        let stored = gguf_files(tree);
        let found = stored.iter().find(|(_, stem)| is_precision(stem, &wanted));
        if let Some((at, _)) = found {
            return Ok(Choice::Gguf(*at));
        }
    }
    let recipe = variants::recipe(name, tree)
        .map_err(|failure| Problem::from(failure).code(REVISION_NOT_FOUND))?;
    match gguf && !recipe.makes_gguf() {
        true => Err(absent(name, "a variant that is no GGUF file")),
        false => Ok(Choice::Variant(recipe)),
    }
}

fn absent(tag: &str, why: &str) -> Problem {
    Problem::not_found(format!("{tag:?} names {why}")).code(REVISION_NOT_FOUND)
}

/// The GGUF files of a version that are a model each, with their lower-case names before the extension.
pub(super) fn gguf_files(tree: &Tree) -> Vec<(usize, String)> {
    let stem = |path: &str| {
        let name = path.rsplit('/').next()?.to_ascii_lowercase();
        let stem = name.strip_suffix(".gguf")?.to_owned();
        // Projectors are no models, and parts of one are not one.
        let whole = !stem.starts_with("mmproj") && !stem.contains("-of-");
        whole.then_some(stem)
    };
    let files = tree.files().iter().enumerate();
    files
        .filter_map(|(at, file)| Some((at, stem(&file.path)?)))
        .collect()
}

/// Whether a file of this name is of the precision.
fn is_precision(stem: &str, precision: &str) -> bool {
    let before = stem.strip_suffix(precision);
    before.is_some_and(|before| before.is_empty() || before.ends_with(['-', '.', '_']))
}

impl Image {
    /// What is chosen of a version.
    ///
    /// # Errors
    /// 503 when documents are nowhere to be had, and while a variant is being made; 400 when there are too many files
    /// for a manifest.
    pub(super) async fn of(
        reader: &Reader,
        model: &OpenModel,
        version: OpenVersion,
        choice: Choice,
    ) -> Result<Self, Problem> {
        let (files, variant) = match choice {
            Choice::All => (all(&version).await?, None),
            Choice::Gguf(at) => (vec![stored(&version, at, None)], None),
            Choice::Variant(recipe) => {
                let at = version.opener().variant(recipe).await?;
                match of_variant(model, &version, &at).await? {
                    Some(files) => (files, Some(at)),
                    None => {
                        let of = model.at();
                        let (publisher, model, id) = (of.publisher, &of.model, version.id());
                        let name = format!("{publisher}/{model}@{}:{recipe}", id.to_hex());
                        return Err(reader.registry().making.ask(at.id, name));
                    }
                }
            }
        };
        check_count(files.len())?;
        Ok(Self {
            version,
            files,
            variant,
        })
    }

    /// The GGUF file that it is or that is made, if it is one.
    pub(super) fn gguf(&self) -> Option<&ImageFile> {
        match &self.files[..] {
            [file] if file.path.to_ascii_lowercase().ends_with(".gguf") => Some(file),
            _ => None,
        }
    }
}

/// That a manifest can have so many files.
fn check_count(files: usize) -> Result<(), Problem> {
    if files <= OCI_LAYERS_MAX {
        return Ok(());
    }
    let message =
        format!("a manifest has at most {OCI_LAYERS_MAX} files, and this would have {files}");
    Err(Problem::usage(message).code("MANIFEST_INVALID"))
}

/// All files of a version, links as what they lead to.
async fn all(version: &OpenVersion) -> Result<Vec<ImageFile>, Problem> {
    let mut files = Files::stored(version);
    files.follow(version, None).await?;
    let of = |at| match files.place(at) {
        Some(Place::Stored(target)) => Some(stored(version, target, Some(files.path(at)))),
        _ => None,
    };
    Ok((0..files.len()).filter_map(of).collect())
}

/// The file of a version at a position, under its own path or another.
fn stored(version: &OpenVersion, at: usize, path: Option<&str>) -> ImageFile {
    let file = &version.tree().files()[at];
    ImageFile {
        path: path.unwrap_or(&file.path).to_owned(),
        size: file.size,
        digest: Digest::new(file.sha256),
        at: At::Stored(at),
    }
}

/// The files of a variant; nothing as long as a digest is not known.
async fn of_variant(
    model: &OpenModel,
    version: &OpenVersion,
    at: &Arc<VariantAt>,
) -> Result<Option<Vec<ImageFile>>, Problem> {
    let opener = version.opener();
    let mut claimed = opener.claimed(at.recipe).await?;
    if let Some(known) = &claimed
        && known.tree.is_none()
    {
        model.complete(Some(known.version)).await;
        claimed = opener.claimed(at.recipe).await?;
    }
    let kept = claimed.and_then(|claimed| claimed.tree);
    Ok(files_of(at, kept.as_deref()))
}

/// The files of a variant as they are kept; nothing when some were never made.
pub(super) fn files_of(at: &Arc<VariantAt>, kept: Option<&Tree>) -> Option<Vec<ImageFile>> {
    let file = |(position, file): (usize, &variants::VariantFileAt)| {
        let same = file.same_as(&at.tree).and_then(|same| {
            let files = at.tree.files();
            let found = files.binary_search_by(|other| other.path.cmp(&same.path));
            found.ok().map(|found| (same.sha256, At::Stored(found)))
        });
        let made = || {
            let whole = kept?.file(&file.path)?;
            let sound = whole.size == file.len;
            sound.then_some((whole.sha256, At::Made(at.recipe, position)))
        };
        let (sha256, from) = same.or_else(made)?;
        Some(ImageFile {
            path: file.path.clone(),
            size: file.len,
            digest: Digest::new(sha256),
            at: from,
        })
    };
    at.files.iter().enumerate().map(file).collect()
}

/// The bytes of a file.
///
/// # Errors
/// 503 when lists are nowhere to be had.
pub(super) async fn source(
    model: &OpenModel,
    version: &OpenVersion,
    at: At,
) -> Result<Arc<dyn Source>, Problem> {
    let (recipe, position) = match at {
        At::Stored(at) => {
            let file = version.tree().files()[at].clone();
            return Ok(Arc::new(version.reader(file).await?));
        }
        At::Made(recipe, position) => (recipe, position),
    };
    let opener = version.opener();
    let variant = opener.variant(recipe).await?;
    let file = variant.files.get(position);
    let file = file.ok_or_else(|| Failure::failed("a variant has fewer files than it had"))?;
    if let Some(claimed) = opener.claimed(recipe).await?
        && let Some(kept) = held(model, claimed.version, &file.path, file.len).await
    {
        return Ok(kept);
    }
    // Whoever claims it need not have it now: the same bytes are made of what the version is.
    Ok(Arc::new(opener.reader(&variant, position).await?))
}

/// A kept file, if all of it is here.
async fn held(model: &OpenModel, kept: VersionId, path: &str, len: u64) -> Option<Arc<dyn Source>> {
    let kept = model.version(kept, Vec::new()).await.ok()?;
    let file = kept.tree().file(path)?.clone();
    if file.size != len {
        return None;
    }
    let open = Arc::new(kept.reader(file).await.ok()?);
    open.is_held().await.then_some(open as Arc<dyn Source>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_so_many_files_and_no_more() {
        assert!(check_count(OCI_LAYERS_MAX).is_ok());
        let refused = check_count(OCI_LAYERS_MAX + 1).map_err(|problem| problem.status().as_u16());
        assert_eq!(refused, Err(400));
    }

    #[test]
    fn a_precision_is_the_last_word_of_a_name() {
        for (stem, precision, is) in [
            ("tiny-q4_k_m", "q4_k_m", true),
            ("tiny.q4_k_m", "q4_k_m", true),
            ("q4_k_m", "q4_k_m", true),
            ("tiny-iq4_k_m", "q4_k_m", false),
            ("tiny-q4_k_m-v2", "q4_k_m", false),
        ] {
            assert_eq!(is_precision(stem, precision), is, "{stem}");
        }
    }
}
