//! The Rust client hf-hub as candle, TGI and tokenizers use it: reads a repository and prints what it found.
//!
//! usage: HF_ENDPOINT=http://.. HF_HOME=FOLDER hf-hub-client REPOSITORY FILE..

use hf_hub::{Repo, RepoType, api::sync::ApiBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("no repository")?;
    let api = ApiBuilder::from_env().with_progress(false).build()?;
    let repo = api.repo(Repo::with_revision(
        name,
        RepoType::Model,
        "main".to_owned(),
    ));
    let info = repo.info()?;
    println!("{} {}", info.sha, info.siblings.len());
    for file in arguments {
        println!("{}", repo.get(&file)?.display());
    }
    match repo.get("none") {
        Ok(path) => Err(format!("a file that is not there came as {}", path.display()).into()),
        Err(_) => Ok(()),
    }
}
