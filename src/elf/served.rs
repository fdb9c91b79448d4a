//! File systems served by a user's program (FUSE): they may block any reader of their files for ever, even the kernel
//! when a probe is attached there.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// Longest list of mounts that is read, bytes; a host has some hundred of them.
const LONGEST: u64 = 8 << 20;

/// Whether a device is a file system that a user other than root serves, by the mounts of the process with this directory in
/// procfs.
pub(super) fn is_by_user(process: &Path, device: u64) -> bool {
    File::open(process.join("mountinfo")).is_ok_and(|mounts| is_listed(mounts, device))
}

/// Searches lines of the form `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - TYPE SOURCE OPTIONS`.
fn is_listed(mounts: impl Read, device: u64) -> bool {
    let wanted = format!("{}:{}", libc::major(device), libc::minor(device));
    let lines = BufReader::new(mounts.take(LONGEST)).split(b'\n').map_while(Result::ok);
    lines.into_iter().any(|line| {
        let text = String::from_utf8_lossy(&line);
        let Some((mount, system)) = text.split_once(" - ") else { return false };
        let mut words = system.split(' ');
        let (kind, options) = (words.next().unwrap_or_default(), words.next_back().unwrap_or_default());
        let is_of_root = options.split(',').any(|option| option == "user_id=0");
        mount.split(' ').nth(2) == Some(&wanted)
            && (kind == "fuse" || kind == "fuseblk" || kind.starts_with("fuse."))
            && !is_of_root
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_users_are_told_from_others() {
        let mounts = b"22 1 253:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            30 22 0:45 / /home/user/mnt rw,nosuid - fuse.sshfs host: rw,user_id=1000,group_id=1000\n\
            31 22 0:46 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw,user_id=0,group_id=0,allow_other\n\
            32 22 0:47 / /x rw - fuse a\\040-\\040b rw,user_id=10\n\
            33 22 0:48 / /sys/fs/fuse/connections rw - fusectl fusectl rw\nodd\n";
        let served = |minor| is_listed(mounts.as_slice(), libc::makedev(0, minor));
        assert_eq!([45, 46, 47, 48, 49].map(served), [true, false, true, false, false]);
        assert!(!is_listed(mounts.as_slice(), libc::makedev(253, 1)));
    }
}
