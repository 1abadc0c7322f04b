//! The Rust client hf-hub 1.0: reads a repository and prints what it found, then where each file is, then the folder of all
//! files that end with `.json`.
//!
//! usage: HF_ENDPOINT=http://.. HF_HOME=FOLDER hf-hub-1-client OWNER NAME FILE..

use hf_hub::HFClientSync;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let owner = arguments.next().ok_or("no owner")?;
    let name = arguments.next().ok_or("no repository")?;
    let repository = HFClientSync::new()?.model(owner, name);
    let info = repository.info().send()?;
    let sha = info.sha.ok_or("no commit")?;
    println!("{sha} {}", info.siblings.map_or(0, |files| files.len()));
    for file in arguments {
        let path = repository.download_file().filename(&*file).send()?;
        println!("{}", path.display());
    }
    let some = vec!["*.json".to_owned()];
    let folder = repository.snapshot_download().allow_patterns(some).send()?;
    println!("{}", folder.display());
    match repository.download_file().filename("none").send() {
        Ok(path) => Err(format!("a file that is not there came as {}", path.display()).into()),
        Err(_) => Ok(()),
    }
}
