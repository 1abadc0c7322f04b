//! What addresses named a moment ago, so that many short reads of one file do not look up the same names,
//! documents and lists again and again.
//!
//! It is forgotten as soon as anything in the home changes, and it is kept for each caller apart: what a
//! token may read follows from its id and the home alone, and whether it holds still is asked anew each
//! time, before anything is looked up here.

use std::{sync::Arc, time::Instant};

use lode_node::tokens::TokenId;
use lode_store::recent::{Recent, Usage};
use serde::{Deserialize, Serialize};

use crate::{
    answer::Problem,
    content::Content,
    limits::{CONTENTS_KEPT_AGE_MAX, CONTENTS_KEPT_MAX},
    reader::Reader,
    target::Target,
};

/// Contents by who asks, and their addresses.
#[derive(Debug)]
pub struct Kept(Recent<(Whose, Arc<Target>), Known>);

/// For whom something is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whose {
    Owner,
    Token(TokenId),
    Anyone,
}

#[derive(Debug, Clone)]
struct Known {
    content: Arc<Content>,
    since: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self(Recent::new(CONTENTS_KEPT_MAX))
    }
}

impl Kept {
    /// How often an address was asked for.
    pub(crate) fn usage(&self) -> Usage {
        self.0.usage()
    }
}

impl Reader {
    /// What `target` names: as it is remembered, or as `open` finds it.
    ///
    /// # Errors
    /// Those of `open`.
    pub async fn content(
        &self,
        target: &Arc<Target>,
        open: impl Future<Output = Result<Content, Problem>>,
    ) -> Result<Arc<Content>, Problem> {
        let (kept, as_of) = (&self.kept().0, self.reads().store().changes());
        let key = (self.whose(), Arc::clone(target));
        if let Some(known) = kept.get(&key, as_of)
            && known.since.elapsed() < CONTENTS_KEPT_AGE_MAX
        {
            return Ok(known.content);
        }
        let content = Arc::new(open.await?);
        if content.source.again().is_some() {
            let known = Known {
                content: Arc::clone(&content),
                since: Instant::now(),
            };
            kept.put(key, known, 1, as_of);
        }
        Ok(content)
    }
}
