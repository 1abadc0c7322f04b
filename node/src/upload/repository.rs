//! Models without files, their branches and tags, and who may read them.
//!
//! A model that was made and not yet written to is one version with an empty tree on `main`: then it has all
//! that a model has (a head to commit on, refs, signatures, a place in lists), and nothing needs to know of
//! models that are none yet.

use lode_store::{
    identity::Operation,
    manifest::{Kind, Links, Version},
    name::{Name, NameRev, check_ref_name, fold_model},
    refs::PUBLIC_REF,
    tree::Tree,
};

use super::{UploadError, Uploads, lock};
use crate::{
    command::{Failure, FailureKind},
    publisher::now,
    push,
    read::RefKind,
    refs, remove,
    resolve::{self, Found},
};

/// A model to be made.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// Its name.
    pub name: Name,
    /// A model or a data set.
    pub kind: Kind,
    /// Whether everyone may read it.
    pub public: bool,
}

/// What came of making a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// There is one now.
    New,
    /// There was one, under this name.
    Known {
        /// As it is spelled.
        model: String,
    },
}

impl Uploads {
    /// Makes a model without files.
    ///
    /// # Errors
    /// Under an alias of another publisher.
    pub fn create(&self, new: &NewModel) -> Result<Created, UploadError> {
        let signer = self.signer(&new.name, Operation::Push)?;
        let _one = lock(&self.state().commits);
        let folded = fold_model(&new.name.model);
        let known = self
            .node
            .reads()
            .models()?
            .into_iter()
            .find(|at| at.publisher == signer.publisher && fold_model(&at.model) == folded);
        if let Some(known) = known {
            return Ok(Created::Known { model: known.model });
        }
        let model = &new.name.model;
        let (tree, bytes) = Tree::default().encode_with_id();
        self.node.store().put_documents(&[bytes])?;
        let version = Version {
            kind: new.kind,
            publisher: Some(signer.publisher),
            model: model.clone(),
            tree,
            parents: Vec::new(),
            author: None,
            time: now(),
            message: "initial commit".to_owned(),
            links: Links::default(),
        };
        let version = push::sign(&self.node, &signer, &version)?;
        // Refs of a model of this name that was removed may be there still.
        signer.move_ref(&self.node, model, "heads/main", Some(version))?;
        if new.public {
            self.signer(&new.name, Operation::Access)?.move_ref(
                &self.node,
                model,
                PUBLIC_REF,
                Some(version),
            )?;
        }
        resolve::is_back(&self.node, &signer.publisher, model)?;
        Ok(Created::New)
    }

    /// Removes a model, as `lode rm` does.
    ///
    /// # Errors
    /// [`UploadError::Absent`].
    pub fn delete(&self, name: &Name) -> Result<(), UploadError> {
        self.inbox(name)?;
        let _one = lock(&self.state().commits);
        remove::remove(&self.node, &name.to_string(), false)?;
        Ok(())
    }

    /// Says whether everyone may read a model.
    ///
    /// # Errors
    /// [`UploadError::Absent`].
    pub fn set_public(&self, name: &Name, public: bool) -> Result<(), UploadError> {
        self.inbox(name)?;
        let _one = lock(&self.state().commits);
        let head = self.resolve(name, None)?;
        let signer = self.signer(name, Operation::Access)?;
        let set = self.node.store().ref_set(&signer.publisher, &head.model)?;
        if set.is_public() != public {
            let version = public.then_some(head.id);
            signer.move_ref(&self.node, &head.model, PUBLIC_REF, version)?;
        }
        Ok(())
    }

    /// Makes a branch or a tag at `rev`, `main` without one.
    ///
    /// # Errors
    /// [`UploadError::Exists`], [`UploadError::Absent`].
    pub fn create_ref(
        &self,
        name: &Name,
        kind: RefKind,
        short: &str,
        rev: Option<&str>,
    ) -> Result<(), UploadError> {
        let usage = |error: lode_store::name::NameError| UploadError::usage(error.to_string());
        check_ref_name(short).map_err(usage)?;
        self.inbox(name)?;
        let _one = lock(&self.state().commits);
        let found = self.resolve(name, rev)?;
        let full = kind.full(short);
        let set = self.node.store().ref_set(&found.publisher, &found.model)?;
        if set.resolve(&full).served().is_some() {
            return Err(UploadError::Exists {
                what: format!("{} {short}", kind.as_str()),
            });
        }
        let signer = self.signer(name, kind.operation())?;
        Ok(signer.move_ref(&self.node, &found.model, &full, Some(found.id))?)
    }

    /// Removes a branch or a tag.
    ///
    /// # Errors
    /// [`UploadError::Absent`].
    pub fn delete_ref(&self, name: &Name, kind: RefKind, short: &str) -> Result<(), UploadError> {
        self.inbox(name)?;
        let _one = lock(&self.state().commits);
        refs::remove_ref(&self.node, name, &kind.full(short)).map_err(no_rev(short))?;
        Ok(())
    }

    fn resolve(&self, name: &Name, rev: Option<&str>) -> Result<Found, UploadError> {
        let shown = rev.unwrap_or("main");
        let at = NameRev {
            name: name.clone(),
            rev: Some(shown.parse().map_err(|_| UploadError::NoRev {
                rev: shown.to_owned(),
            })?),
            variant: None,
        };
        resolve::version(&self.node, &at).map_err(no_rev(shown))
    }
}

/// What the model lacks is said as that.
fn no_rev(rev: &str) -> impl Fn(Failure) -> UploadError {
    move |failure| match failure.kind {
        FailureKind::NotFound => UploadError::NoRev {
            rev: rev.to_owned(),
        },
        _ => failure.into(),
    }
}

impl RefKind {
    fn full(self, short: &str) -> String {
        match self {
            Self::Branch => format!("heads/{short}"),
            Self::Tag => format!("tags/{short}"),
        }
    }

    fn operation(self) -> Operation {
        match self {
            Self::Branch => Operation::Branch,
            Self::Tag => Operation::Tag,
        }
    }
}
