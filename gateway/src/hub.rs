//! The dialect of the Hugging Face Hub, so that its clients read from a node unmodified.

mod whoami;

use crate::{reader::Read, route::Route};

/// All routes of the Hub's dialect.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/whoami-v2", "Says whose token a request carries")
            .scope::<Read>()
            .to(whoami::whoami),
    ]
}
