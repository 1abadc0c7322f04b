//! The operating system's files behind [`Disk`].

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, Timespec, Timestamps};

use super::{Access, Disk, DiskFile, DiskLock, Space, Stat, mmap, network};
use crate::hashing::nanoseconds;

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(path);
        match opened {
            Ok(file) => Ok(Some(Arc::new(RealFile(file)))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent)?;
            match fs::create_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
                Err(e) => return Err(e),
                Ok(()) => self.sync_dir(parent)?,
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = fs::read_dir(path)?
            .map(|e| Ok(e?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        fs::metadata(path).map(|data| stat_of(&data))
    }

    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        if fs::symlink_metadata(path)?.is_symlink() {
            fs::read_link(path).map(Some)
        } else {
            Ok(None)
        }
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // who holds the lock, for messages alone
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Some(DiskLock::new(file)))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let fs = rustix::fs::statvfs(path)?;
        let unit = fs.f_frsize;
        Ok(Space {
            total: fs.f_blocks.saturating_mul(unit),
            free: fs.f_bavail.saturating_mul(unit),
        })
    }

    fn network(&self, path: &Path) -> io::Result<Option<String>> {
        network::network(path)
    }
}

impl DiskFile for RealFile {
    #[cfg(not(target_os = "linux"))]
    fn stat(&self) -> io::Result<Stat> {
        self.0.metadata().map(|data| stat_of(&data))
    }

    #[cfg(target_os = "linux")]
    fn stat(&self) -> io::Result<Stat> {
        // Each short read asks for it, and what else `statx` finds out takes as long again.
        let stat = rustix::fs::fstat(&self.0)?;
        Ok(Stat {
            is_file: rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file(),
            len: stat.st_size.cast_unsigned(),
            allocated: stat.st_blocks.cast_unsigned() * 512,
            device: stat.st_dev,
            inode: stat.st_ino,
            // 32 bits on some machines
            #[allow(clippy::useless_conversion)]
            links: stat.st_nlink.into(),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_at_hand(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, ReadWriteFlags};
        let mut buf = [io::IoSliceMut::new(buf)];
        match rustix::io::preadv2(&self.0, &mut buf, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            // Not in memory; or a file system, or a kernel, that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_at_hand(&self, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(None)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.0.set_len(len),
            done => Ok(done?),
        }
    }

    #[cfg(target_os = "linux")]
    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(
            &self.0,
            flags,
            range.start,
            range.end - range.start,
        )?)
    }

    #[cfg(not(target_os = "linux"))]
    fn punch(&self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_mtime(&self, mtime_ns: i64) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime_ns.div_euclid(1_000_000_000),
                tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
            },
        };
        Ok(rustix::fs::futimens(&self.0, &times)?)
    }

    fn set_exec(&self, exec: bool) -> io::Result<()> {
        let mode = self.0.metadata()?.permissions().mode();
        let wanted = if exec {
            mode | ((mode & 0o444) >> 2)
        } else {
            mode & !0o111
        };
        if wanted == mode {
            return Ok(());
        }
        self.0.set_permissions(fs::Permissions::from_mode(wanted))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn map(&self) -> io::Result<Bytes> {
        mmap::map(&self.0)
    }
}

fn stat_of(data: &fs::Metadata) -> Stat {
    Stat {
        is_file: data.is_file(),
        len: data.len(),
        allocated: data.blocks() * 512,
        device: data.dev(),
        inode: data.ino(),
        links: data.nlink(),
        mtime_ns: nanoseconds(data.mtime(), data.mtime_nsec()),
        ctime_ns: nanoseconds(data.ctime(), data.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_open_file_says_of_itself_what_its_path_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [1; 5000]).unwrap();
        let open = RealDisk.open(file.path(), Access::Read).unwrap();
        let stat = open.stat().unwrap();
        assert_eq!(stat, RealDisk.stat(file.path()).unwrap());
        assert_eq!((stat.len, stat.links, stat.is_file), (5000, 1, true));
    }

    #[test]
    fn a_lock_is_held_once_and_released_by_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(RealDisk.lock(&path).unwrap().is_none());
        drop(held);
        assert!(RealDisk.lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_punched_range_is_zeros_and_the_time_can_be_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("f")).unwrap();
        file.write_at(&[7; 65_536], 0).unwrap();
        let before = file.stat().unwrap();
        match file.punch(4096..61_440) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return,
            done => done.unwrap(),
        }
        file.set_mtime(before.mtime_ns).unwrap();
        let bytes = file.read_vec_at(0, 65_536).unwrap();
        assert!(bytes[4096..61_440].iter().all(|b| *b == 0));
        assert!(
            bytes[..4096]
                .iter()
                .chain(&bytes[61_440..])
                .all(|b| *b == 7)
        );
        let after = file.stat().unwrap();
        assert_eq!((after.len, after.mtime_ns), (before.len, before.mtime_ns));
    }
}
