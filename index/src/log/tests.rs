//! The loss that these prevent: an acknowledged write that is gone, or one that comes back changed.

use std::path::Path;

use super::*;
use crate::disk::sim::SimDisk;

const DIR: &str = "/log";

fn fresh(disk: &SimDisk) -> LogFile {
    disk.create_dir(Path::new(DIR)).unwrap();
    LogFile::new(Arc::new(disk.clone()), Path::new(DIR), 1, 77)
}

fn open(disk: &SimDisk) -> Result<(Vec<Vec<u8>>, Recovered), LogError> {
    let mut found = Vec::new();
    let recovered = LogFile::open(
        Arc::new(disk.clone()),
        Path::new(DIR),
        1,
        78,
        &mut |group| {
            found.push(group.to_vec());
            Ok::<_, LogError>(())
        },
    )?;
    Ok((found, recovered))
}

fn groups() -> Vec<Vec<u8>> {
    (0..5u8)
        .map(|n| vec![n; 700 * usize::from(n) + 1])
        .collect()
}

#[test]
fn acknowledged_groups_read_back() {
    let disk = SimDisk::new(1);
    let mut log = fresh(&disk);
    for group in groups() {
        log.append(&group).unwrap();
    }
    disk.reboot();
    let (found, mut recovered) = open(&disk).unwrap();
    assert_eq!(found, groups());
    recovered.file.append(b"more").unwrap();
    assert_eq!(open(&disk).unwrap().0.len(), 6);
}

#[test]
fn a_crash_at_any_call_loses_nothing_acknowledged_and_tears_nothing() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut log = fresh(&disk);
        disk.crash_after(seed % 20);
        let acknowledged = groups()
            .iter()
            .take_while(|group| log.append(group).is_ok())
            .count();
        disk.reboot();
        if disk.list(Path::new(DIR)).unwrap().is_empty() {
            assert_eq!(acknowledged, 0, "seed {seed}");
            continue;
        }
        let (found, recovered) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(found.len() >= acknowledged, "seed {seed}");
        assert_eq!(found, groups()[..found.len()], "seed {seed}");
        // what was cut is gone for good
        drop(recovered);
        if !found.is_empty() {
            assert_eq!(open(&disk).unwrap().1.torn, 0, "seed {seed}");
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_is_a_torn_tail() {
    let disk = SimDisk::new(1);
    let mut log = fresh(&disk);
    let path = Path::new(DIR).join(file_name(1));
    let mut ends = vec![0];
    for group in groups() {
        log.append(&group).unwrap();
        ends.push(log.len());
    }
    let whole = disk.read(&path, u64::MAX).unwrap();
    for len in 0..whole.len() {
        let mut read = read_groups(&whole[..len], 1);
        let good = read.by_ref().map(Result::unwrap).count();
        let expected = ends
            .iter()
            .skip(1)
            .filter(|end| **end <= len as u64)
            .count();
        assert_eq!(good, expected, "cut at {len}");
    }
}

#[test]
fn a_changed_byte_before_the_last_group_is_reported() {
    let disk = SimDisk::new(1);
    let mut log = fresh(&disk);
    let path = Path::new(DIR).join(file_name(1));
    let mut last = 0;
    for group in groups() {
        last = log.len();
        log.append(&group).unwrap();
    }
    let whole = disk.read(&path, u64::MAX).unwrap();
    for at in (0..usize::try_from(last).unwrap()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        let mut read = read_groups(&changed, 1);
        let damage = read.find_map(Result::err);
        assert!(damage.is_some(), "byte {at}");
    }
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let disk = SimDisk::new(1);
    let mut log = fresh(&disk);
    log.append(b"one").unwrap();
    disk.fail_sync_after(0);
    assert!(matches!(log.append(b"two"), Err(LogError::Io { .. })));
    assert!(matches!(
        log.append(b"three"),
        Err(LogError::Poisoned { .. })
    ));
    assert!(matches!(
        log.append(b"three"),
        Err(LogError::Poisoned { .. })
    ));
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let disk = SimDisk::new(1);
    let mut log = fresh(&disk);
    log.append(b"one").unwrap();
    disk.set_capacity(Some(usize::try_from(log.len()).unwrap() + 10));
    assert!(matches!(log.append(b"two"), Err(LogError::Io { .. })));
    disk.set_capacity(None);
    log.append(b"two").unwrap();
    assert_eq!(open(&disk).unwrap().0, [b"one", b"two"]);
}

#[test]
fn a_group_past_the_bound_is_refused() {
    let disk = SimDisk::new(1);
    let mut log = fresh(&disk);
    let group = vec![0; LOG_GROUP_BYTES_MAX + 1];
    assert!(matches!(log.append(&group), Err(LogError::TooLong { .. })));
    log.append(&group[1..]).unwrap();
}
