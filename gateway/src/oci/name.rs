//! Which model a repository's name means.
//!
//! Names of registries have no upper case, so case does not count where it does elsewhere: what is here is found
//! however it is written. `acme/tiny-gguf` is the GGUF variants of `acme/tiny`, unless there is a model of that name.

use crate::{
    answer::Problem,
    hub::repo::{spelling, split_gguf},
    reader::{OpenModel, Reader, absent_model},
    route::Params,
};

/// A repository that the caller may read.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) model: OpenModel,
    /// Whether it is the GGUF variants of the model alone.
    pub(super) gguf: bool,
    /// `publisher/model` as the address has it.
    pub(super) name: String,
}

impl Repository {
    /// The repository that an address names. One that is not here is asked for among peers.
    ///
    /// # Errors
    /// 404 when nobody has it or the caller may not see it.
    pub(super) async fn open(reader: &Reader, params: &Params) -> Result<Self, Problem> {
        let (publisher, name) = (params.get("publisher"), params.get("model"));
        let full = format!("{publisher}/{name}");
        // Aliases and keys have no upper case.
        let lower = publisher.to_ascii_lowercase();
        let open = |model, gguf| Self {
            model,
            gguf,
            name: full.clone(),
        };
        if let Some(model) = here(reader, &lower, name).await? {
            return Ok(open(model, false));
        }
        if let Some(model) = reader.model_elsewhere(&lower, name).await? {
            return Ok(open(model, false));
        }
        if let Some((base, _)) = split_gguf(name) {
            if let Some(model) = here(reader, &lower, base).await? {
                return Ok(open(model, true));
            }
            if let Some(model) = reader.model_elsewhere(&lower, base).await? {
                return Ok(open(model, true));
            }
        }
        Err(absent_model(reader.caller(), publisher, name))
    }
}

/// The model of this name in the home, in whatever case.
async fn here(reader: &Reader, publisher: &str, name: &str) -> Result<Option<OpenModel>, Problem> {
    if let Some(model) = reader.model_here(publisher, name).await? {
        return Ok(Some(model));
    }
    let models = reader.models().await?;
    let mut same = models
        .into_iter()
        .filter(|model| spelling(model, publisher, name).is_some());
    Ok(same.next())
}
