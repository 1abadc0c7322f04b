//! The files of a revision as the Hub lists them: stored ones, those of a variant, or one GGUF file a variant.

use std::{collections::BTreeMap, sync::Arc};

use lode_node::{command::FailureKind, origin, variants::VariantAt};
use lode_store::tree::{Mode, Tree};

use super::{class, commit};
use crate::{answer::Problem, file::hex, limits::HUB_LINKS_MAX, reader::OpenVersion};

/// The files of a revision, sorted by path.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// Those of a version.
    Stored {
        tree: Arc<Tree>,
        /// Where links that were followed lead, by position; nothing for those that lead nowhere.
        links: Arc<BTreeMap<usize, Option<usize>>>,
        /// Whether each is of the LFS class, where that follows from what another hub says.
        classes: Option<Arc<[bool]>>,
    },
    /// Those of a variant, and the same ones as somebody made and kept them.
    Variant(Arc<VariantAt>, Option<Arc<Tree>>),
    /// The one file of each of some variants, by the name that it has here.
    Gguf(Arc<Vec<(String, Made)>>),
}

/// A variant, and its files as somebody made and kept them.
type Made = (Arc<VariantAt>, Option<Arc<Tree>>);

/// What is known of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Its tag: the SHA-256, or what stands for it, of a file of the LFS class; else the git SHA-1.
    pub(crate) etag: String,
    /// Whether it is of the LFS class.
    pub(crate) lfs: bool,
}

/// Where the bytes of a file come from.
#[derive(Debug)]
pub(crate) enum Place {
    /// The file of the version at this position.
    Stored(usize),
    /// The file of a variant at this position.
    Made(Arc<VariantAt>, usize),
}

impl Files {
    /// The files of a version. Links are not followed yet.
    pub(crate) fn stored(version: &OpenVersion) -> Self {
        Self::Stored {
            tree: Arc::clone(version.tree()),
            links: Arc::default(),
            classes: origin::classes(version.doc(), version.tree().files().len()).map(Into::into),
        }
    }

    /// Reads links to see where they lead: all of them, or the one at a position.
    ///
    /// # Errors
    /// 503 when a link is nowhere to be had.
    pub(crate) async fn follow(
        &mut self,
        version: &OpenVersion,
        only: Option<usize>,
    ) -> Result<(), Problem> {
        let Self::Stored { tree, links, .. } = self else {
            return Ok(());
        };
        let is_link = |at: &usize| tree.files()[*at].mode == Mode::Link;
        let asked: Vec<usize> = match only {
            Some(at) => [at].into_iter().filter(is_link).collect(),
            None => (0..tree.files().len()).filter(is_link).collect(),
        };
        let mut followed = BTreeMap::new();
        for at in asked {
            let path = &tree.files()[at].path;
            let target = match followed.len() < HUB_LINKS_MAX {
                true => match version.locate(path).await {
                    Ok((target, _)) => Some(target),
                    Err(problem) if problem.kind() == FailureKind::NotFound => None,
                    Err(problem) => return Err(problem),
                },
                false => None,
            };
            followed.insert(at, target);
        }
        *links = Arc::new(followed);
        Ok(())
    }

    /// The files of a variant; `kept` are the same ones as somebody made and kept them.
    pub(crate) fn variant(at: Arc<VariantAt>, kept: Option<Arc<Tree>>) -> Self {
        Self::Variant(at, kept)
    }

    /// The file of each variant of the model, named by model and precision.
    pub(crate) fn gguf(model: &str, variants: Vec<Made>) -> Self {
        let mut named: Vec<(String, Made)> = variants
            .into_iter()
            .filter(|(at, _)| at.files.len() == 1)
            .map(|made| (gguf_name(model, made.0.recipe.precision()), made))
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Gguf(Arc::new(named))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Stored { tree, .. } => tree.files().len(),
            Self::Variant(at, _) => at.files.len(),
            Self::Gguf(named) => named.len(),
        }
    }

    /// The path of one.
    pub(crate) fn path(&self, at: usize) -> &str {
        match self {
            Self::Stored { tree, .. } => &tree.files()[at].path,
            Self::Variant(variant, _) => &variant.files[at].path,
            Self::Gguf(named) => &named[at].0,
        }
    }

    /// The position of the file with this path.
    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        let at = self.partition(|found| found < path);
        (at < self.len() && self.path(at) == path).then_some(at)
    }

    /// The first file whose path is not `before`; all that are come first.
    pub(crate) fn partition(&self, before: impl Fn(&str) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match before(self.path(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// What is known of one; nothing of a link that leads nowhere.
    pub(crate) fn entry(&self, at: usize) -> Option<Entry> {
        match self {
            Self::Stored { tree, classes, .. } => {
                let Place::Stored(target) = self.place(at)? else {
                    return None;
                };
                let lfs = classes
                    .as_ref()
                    .and_then(|classes| classes.get(target).copied());
                Some(stored(tree, target, &tree.files()[at].path, lfs))
            }
            Self::Variant(variant, kept) => Some(made(variant, at, kept.as_deref())),
            Self::Gguf(named) => {
                let (_, (variant, kept)) = &named[at];
                Some(made(variant, 0, kept.as_deref()))
            }
        }
    }

    /// Where the bytes of one come from; nothing for a link that leads nowhere.
    pub(crate) fn place(&self, at: usize) -> Option<Place> {
        let of_variant = |variant: &Arc<VariantAt>, at: usize| {
            let same = variant.files[at].same_as(&variant.tree);
            let stored = same.and_then(|file| position(&variant.tree, &file.path));
            match stored {
                Some(at) => Place::Stored(at),
                None => Place::Made(Arc::clone(variant), at),
            }
        };
        match self {
            Self::Stored { links, .. } => match links.get(&at) {
                Some(target) => target.map(Place::Stored),
                None => Some(Place::Stored(at)),
            },
            Self::Variant(variant, _) => Some(of_variant(variant, at)),
            Self::Gguf(named) => Some(of_variant(&named[at].1.0, 0)),
        }
    }
}

/// `tiny-Q4_K_M.gguf`
fn gguf_name(model: &str, precision: &str) -> String {
    format!("{model}-{}.gguf", precision.to_ascii_uppercase())
}

fn position(tree: &Tree, path: &str) -> Option<usize> {
    let files = tree.files();
    files
        .binary_search_by(|file| file.path.as_str().cmp(path))
        .ok()
}

/// A stored file that is listed under `path`, of the class that its hub says or its path and size.
fn stored(tree: &Tree, at: usize, path: &str, lfs: Option<bool>) -> Entry {
    let file = &tree.files()[at];
    let lfs = lfs.unwrap_or_else(|| class::is_lfs(path, file.size));
    let etag = match (&file.git, lfs) {
        (Some(git), false) => hex(git),
        _ => hex(&file.sha256),
    };
    Entry {
        size: file.size,
        etag,
        lfs,
    }
}

/// A file of a variant: the version's own, or one that is made. The SHA-256 of what is made is known only once
/// somebody made all of it; until then the file has an id that follows from the variant's.
fn made(variant: &VariantAt, at: usize, kept: Option<&Tree>) -> Entry {
    let file = &variant.files[at];
    let same = file.same_as(&variant.tree);
    if let Some(at) = same.and_then(|file| position(&variant.tree, &file.path)) {
        return stored(&variant.tree, at, &file.path, None);
    }
    let whole = kept.and_then(|tree| tree.file(&file.path));
    let whole = whole.filter(|whole| whole.size == file.len);
    let lfs = class::is_lfs(&file.path, file.len);
    let etag = match (whole, lfs) {
        (Some(whole), true) => hex(&whole.sha256),
        // Small files that are made, such as a config.json, have no git SHA-1 before they are; their id is as long.
        (_, false) => commit::of_file(variant.id, &file.path)[..commit::DIGITS].to_owned(),
        (None, true) => commit::of_file(variant.id, &file.path),
    };
    Entry {
        size: file.len,
        etag,
        lfs,
    }
}
