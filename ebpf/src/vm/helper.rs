//! The helper functions.

use super::environment::{self, byte};
use super::memory::{CONTEXT_START, map_index};
use super::run::ProgramRun;
use super::{Environment, Errno, Fault};
use crate::insn::{Helper, R1, R2, R3, R4};

/// `EFAULT`, for every address that cannot be read. On some architectures the kernel returns `-ERANGE` for a kernel read of a
/// user address; programs can rely on the sign only.
const EFAULT: Errno = -14;
const EINVAL: Errno = -22;

/// `TASK_COMM_LEN` without the NUL.
const COMM_MAX: usize = 15;

fn code(result: Result<(), Errno>) -> u64 {
    result.err().unwrap_or(0).cast_unsigned()
}

impl ProgramRun<'_> {
    /// Runs a helper and returns its result for `r0`.
    pub(super) fn call(&mut self, helper: Helper) -> Result<u64, Fault> {
        match helper {
            Helper::MapLookup => self.map_lookup(),
            Helper::MapUpdate => self.map_update(),
            Helper::MapDelete => {
                let (map, key) = (self.keyed_map()?, self.key()?);
                Ok(code(self.memory.maps[map].remove(&key)))
            }
            Helper::KtimeNs => {
                let now = self.env.ktime_ns;
                self.env.ktime_ns = now.wrapping_add(self.env.ktime_step_ns);
                Ok(now)
            }
            Helper::CpuId => Ok(self.env.cpu.into()),
            Helper::PidTgid => Ok(self.env.pid_tgid),
            Helper::UidGid => Ok(self.env.uid_gid),
            Helper::Comm => self.comm(),
            Helper::Task | Helper::TaskBtf => Ok(self.env.task),
            Helper::CgroupId => Ok(self.env.cgroup_id),
            Helper::TaskStorageGet => self.task_storage(),
            Helper::AttachCookie => Ok(self.env.cookie),
            Helper::ReadUser => {
                self.read(|run, address, size| Ok(environment::bytes(&run.env.user, address, size)))
            }
            Helper::ReadKernel => self.read(|run, address, size| run.memory.kernel(run.env, address, size)),
            Helper::ReadUserStr => self.read_str(|run, address| Ok(byte(&run.env.user, address))),
            Helper::ReadKernelStr => self.read_str(|run, address| {
                let bytes = run.memory.kernel(run.env, address, 1)?;
                Ok(bytes.and_then(|bytes| bytes.first().copied()))
            }),
            Helper::GetStack | Helper::GetTaskStack => self.stack(),
            Helper::SkbLoadBytes => self.packet_bytes(true),
            Helper::XdpLoadBytes => self.packet_bytes(false),
            Helper::SkbCgroupId => self.own_context().map(|()| self.env.packet_cgroup),
            Helper::XdpLength => {
                self.own_context()?;
                Ok(u64::try_from(self.env.packet.len()).expect("a usize has at most 64 bits"))
            }
            // No probe compiled from YAML uses them.
            Helper::RingReserve | Helper::RingSubmit => Err(Fault::NoHelper(helper.name())),
        }
    }

    /// Fails unless `r1` is the context.
    fn own_context(&self) -> Result<(), Fault> {
        if self.get(R1)? == CONTEXT_START { Ok(()) } else { Err(Fault::NotContext) }
    }

    /// `…_load_bytes(context, offset, to, size)`: bytes of the packet. What of the buffer is written if there are not so many
    /// differs: zeros, or nothing.
    fn packet_bytes(&mut self, clears: bool) -> Result<u64, Fault> {
        self.own_context()?;
        let (from, to, size) = (self.get(R2)? & u64::from(u32::MAX), self.get(R3)?, self.get(R4)?);
        self.memory.fill(to, size)?;
        let range = || Some(usize::try_from(from).ok()?..usize::try_from(from.checked_add(size)?).ok()?);
        let found = range().and_then(|range| self.env.packet.get(range)).map(<[u8]>::to_vec);
        let result = if found.is_some() { 0 } else { EFAULT.cast_unsigned() };
        if let Some(bytes) = found.or_else(|| clears.then(|| zeros(size))) {
            self.memory.write(to, &bytes)?;
        }
        Ok(result)
    }

    /// The map in `r1`.
    fn map_argument(&self) -> Result<usize, Fault> {
        let value = self.get(R1)?;
        let map = map_index(value).filter(|map| *map < self.memory.maps.len()).ok_or(Fault::NotMap(value))?;
        if !self.memory.maps[map].has_cpu(self.env.cpu) {
            return Err(Fault::NoCpu(self.env.cpu));
        }
        Ok(map)
    }

    /// The map in `r1`, if it is one that programs use by key.
    fn keyed_map(&self) -> Result<usize, Fault> {
        let map = self.map_argument()?;
        if self.memory.maps[map].is_with_tasks() { Err(Fault::NotMap(self.get(R1)?)) } else { Ok(map) }
    }

    /// `task_storage_get(map, task, value, flags)`: what is kept with the task, made of zeros with flag 1; 0 if there is none.
    fn task_storage(&mut self) -> Result<u64, Fault> {
        const CREATE: u64 = 1;
        let (map, task, value, flags) = (self.map_argument()?, self.get(R2)?, self.get(R3)?, self.get(R4)?);
        if !self.memory.maps[map].is_with_tasks() {
            return Err(Fault::NotMap(self.get(R1)?));
        }
        if value != 0 || flags > CREATE {
            return Ok(0);
        }
        let key = task.to_le_bytes();
        if flags == CREATE && self.memory.maps[map].lookup(&key, self.env.cpu).is_none() {
            let zeros = vec![0; self.memory.maps[map].value_size()];
            let Environment { cpu, .. } = *self.env;
            if self.memory.maps[map].update(&key, &zeros, 0, cpu).is_err() {
                return Ok(0);
            }
        }
        let cell = self.memory.maps[map].lookup(&key, self.env.cpu);
        Ok(cell.map_or(0, |cell| self.memory.value_address(map, cell)))
    }

    /// The key at `r2`.
    fn key(&self) -> Result<Vec<u8>, Fault> {
        self.bytes_for(R2, self.memory.maps[self.map_argument()?].key_size())
    }

    fn bytes_for(&self, reg: crate::insn::Reg, len: usize) -> Result<Vec<u8>, Fault> {
        let size = u64::try_from(len).expect("a usize has at most 64 bits");
        Ok(self.memory.argument(self.get(reg)?, size)?.to_vec())
    }

    fn map_lookup(&self) -> Result<u64, Fault> {
        let (map, key) = (self.keyed_map()?, self.key()?);
        let cell = self.memory.maps[map].lookup(&key, self.env.cpu);
        Ok(cell.map_or(0, |cell| self.memory.value_address(map, cell)))
    }

    fn map_update(&mut self) -> Result<u64, Fault> {
        let (map, key, flags) = (self.keyed_map()?, self.key()?, self.get(R4)?);
        let value = self.bytes_for(R3, self.memory.maps[map].value_size())?;
        let Environment { cpu, .. } = *self.env;
        Ok(code(self.memory.maps[map].update(&key, &value, flags, cpu)))
    }

    /// `get_stack(context or task, buf, size, flags)`: returns the bytes written; the rest of the buffer is zeros. The
    /// machine has the same stacks for every task.
    fn stack(&mut self) -> Result<u64, Fault> {
        const USER_BY_BUILD_ID: u64 = 1 << 8 | 1 << 11;
        let (buffer, size, flags) = (self.get(R2)?, self.get(R3)?, self.get(R4)?);
        self.memory.fill(buffer, size)?;
        let frames: Vec<Vec<u8>> = match flags {
            0 => self.env.kernel_stack.iter().map(|address| address.to_le_bytes().to_vec()).collect(),
            USER_BY_BUILD_ID => self
                .env
                .user_stack
                .iter()
                .map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
                .collect(),
            _ => return Ok(EINVAL.cast_unsigned()),
        };
        let mut bytes = zeros(size);
        let mut used = 0;
        for frame in frames {
            let Some(place) = bytes.get_mut(used..used + frame.len()) else { break };
            place.copy_from_slice(&frame);
            used += frame.len();
        }
        self.memory.write(buffer, &bytes)?;
        if used == 0 {
            return Ok(EFAULT.cast_unsigned());
        }
        Ok(u64::try_from(used).expect("a usize has at most 64 bits"))
    }

    /// `strscpy` of the task's name. Kernels other than 6.0 and 6.1 also write zeros after its end; programs cannot rely on
    /// that.
    fn comm(&mut self) -> Result<u64, Fault> {
        let (buffer, size) = (self.get(R1)?, self.get(R2)?);
        self.memory.fill(buffer, size)?;
        if size == 0 {
            return Err(Fault::ZeroSize);
        }
        let mut bytes = zeros(size);
        let text = self.env.comm.iter().take_while(|byte| **byte != 0).take(COMM_MAX.min(bytes.len() - 1));
        let mut length = 1;
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
            length += 1;
        }
        self.memory.write(buffer, &bytes[..length])?;
        Ok(0)
    }

    /// `probe_read_*(dst, size, src)`: copies all of it, or writes zeros and returns an error.
    fn read(
        &mut self,
        fetch: impl Fn(&Self, u64, u64) -> Result<Option<Vec<u8>>, Fault>,
    ) -> Result<u64, Fault> {
        let (dst, size, src) = (self.get(R1)?, self.get(R2)?, self.get(R3)?);
        self.memory.fill(dst, size)?;
        let bytes = fetch(self, src, size)?;
        let result = if bytes.is_some() { 0 } else { EFAULT.cast_unsigned() };
        self.memory.write(dst, &bytes.unwrap_or_else(|| zeros(size)))?;
        Ok(result)
    }

    /// `probe_read_*_str(dst, size, src)`, as `strncpy_from_kernel_nofault`: copies bytes up to and including the NUL, or
    /// `size` bytes of which the last becomes NUL; the rest of the buffer is unchanged.
    ///
    /// The user variant of kernels before 6.2 returns 0, not 1, for an empty string.
    fn read_str(&mut self, fetch: impl Fn(&Self, u64) -> Result<Option<u8>, Fault>) -> Result<u64, Fault> {
        let (dst, size, src) = (self.get(R1)?, self.get(R2)?, self.get(R3)?);
        self.memory.fill(dst, size)?;
        let mut text = Vec::new();
        for i in 0..size {
            let Some(byte) = fetch(self, src.wrapping_add(i))? else {
                self.memory.write(dst, &zeros(size))?;
                return Ok(EFAULT.cast_unsigned());
            };
            text.push(byte);
            if byte == 0 {
                break;
            }
        }
        if let Some(last) = text.last_mut() {
            *last = 0;
        }
        self.memory.write(dst, &text)?;
        Ok(u64::try_from(text.len()).expect("a usize has at most 64 bits"))
    }
}

/// A size of a buffer; `AddressSpace::fill` has checked that it fits its region.
fn zeros(size: u64) -> Vec<u8> {
    vec![0; usize::try_from(size).expect("no region is larger than memory")]
}
