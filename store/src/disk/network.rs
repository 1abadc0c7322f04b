//! Which file systems are on another machine: there locks and syncs do not hold what the store needs.

use std::{io, path::Path};

/// The name of the network file system that `path` is on, if it is one.
#[cfg(target_os = "linux")]
pub(super) fn network(path: &Path) -> io::Result<Option<String>> {
    let magic = rustix::fs::statfs(path)?.f_type;
    // the field's width and sign differ between platforms; every magic number fits 32 bits
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast
    )]
    let magic = magic as u32;
    if magic == FUSE {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let kind = mount_kind(&mounts, &path.canonicalize()?);
        return Ok(kind.filter(|kind| FUSE_REMOTE.iter().any(|name| kind.contains(name))));
    }
    Ok(MAGICS
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| (*name).to_owned()))
}

/// Elsewhere, nothing is known of it.
#[cfg(not(target_os = "linux"))]
pub(super) fn network(_path: &Path) -> io::Result<Option<String>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
const FUSE: u32 = 0x6573_5546;

/// From linux/magic.h and the file systems' own sources.
#[cfg(target_os = "linux")]
const MAGICS: &[(u32, &str)] = &[
    (0x6969, "nfs"),
    (0x517B, "smb"),
    (0xFE53_4D42, "smb2"),
    (0xFF53_4D42, "cifs"),
    (0x564C, "ncp"),
    (0x5346_414F, "afs"),
    (0x6B41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x00C3_6400, "ceph"),
    (0x0BD0_0BD0, "lustre"),
    (0x0102_1997, "9p"),
];

#[cfg(target_os = "linux")]
const FUSE_REMOTE: &[&str] = &[
    "sshfs",
    "s3fs",
    "rclone",
    "gcsfuse",
    "goofys",
    "glusterfs",
    "davfs",
    "curlftpfs",
];

/// The file system type of the mount that `path` lies in, from the text of /proc/self/mountinfo.
#[cfg(target_os = "linux")]
fn mount_kind(mounts: &str, path: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let point = left.split(' ').nth(4)?.replace("\\040", " ");
            path.starts_with(&point).then(|| {
                let source = right.split(' ').take(2).collect::<Vec<_>>().join(" ");
                (point.len(), source)
            })
        })
        .max_by_key(|(len, _)| *len)
        .map(|(_, kind)| kind)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_local_folder_is_not_a_network_file_system() {
        assert_eq!(network(&std::env::temp_dir()).unwrap(), None);
    }

    #[test]
    fn the_innermost_mount_says_what_it_is() {
        let mounts = "22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                      90 22 0:50 / /mnt/far\\040away rw shared:2 - fuse.sshfs me@host: rw\n";
        assert_eq!(
            mount_kind(mounts, Path::new("/mnt/x")).unwrap(),
            "ext4 /dev/vda"
        );
        let far = mount_kind(mounts, Path::new("/mnt/far away/home")).unwrap();
        assert_eq!(far, "fuse.sshfs me@host:");
    }
}
