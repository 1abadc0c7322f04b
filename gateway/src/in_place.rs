//! Work that blocks and is short, as searches are. What may take long holds up the end of its connection here: it has threads of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{block_in_place, spawn_blocking},
};

/// Does what blocks, on the thread that asks for it where the runtime has others: two threads need not be woken, which takes as
/// long as a search. Says what broke off instead of an answer.
pub(crate) async fn in_place<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => spawn_blocking(work)
            .await
            .map_err(|error| error.to_string()),
        _ => block_in_place(|| catch_unwind(AssertUnwindSafe(work)))
            .map_err(|_| "it panicked".to_owned()),
    }
}
