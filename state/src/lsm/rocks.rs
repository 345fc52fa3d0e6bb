//! RocksDB as a tree.
//!
//! What is set, and why; all else is RocksDB's default.
//! - No log: a checkpoint is what makes state durable. Nothing is flushed when a tree is closed either.
//! - One block cache and one limit for memtables per process, whatever the number of tasks; memtables are
//!   charged to the same cache, so that one figure bounds both. Indexes and filters lie in the cache too: of
//!   a tree that is much larger than memory they are larger than memory.
//! - Small blocks with a hash index in each: what misses is single keys, and of a block that was read for one
//!   of them the rest is wasted. Neither filters nor indexes are partitioned: that costs every read.
//! - Bloom filters, over files and memtables: most keys that are looked up in vain are new ones.
//! - No prefix extractor: scans seek in the full order, within bounds.
//! - Levels, compressed with LZ4 from the third on: the first two are rewritten soonest.
//! - The manifest is kept small, because every checkpoint holds a copy.

use super::cut::{Cut, Gate};
use super::files::{Content, LsmFile, Names};
use super::{Expiry, Lsm, LsmEngine, LsmSize, MemoryBudget, Op, Open};
use millstream_model::{Error, Result};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamilyDescriptor, CompactOptions,
    CompactionDecision, DB, DBCompressionType, DEFAULT_COLUMN_FAMILY_NAME, DataBlockIndexType,
    LogLevel, Options, ReadOptions, WaitForCompactOptions, WriteBatch, WriteBufferManager,
    WriteOptions, properties,
};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// As much as is handed to RocksDB at a time.
const WRITE_BYTES: usize = 256 << 10;

/// A memtable larger than this makes flushes longer and nothing faster.
const LARGEST_MEMTABLE_BYTES: usize = 64 << 20;

/// Open files of one tree; beyond it the least used are closed and opened again.
const MAX_OPEN_FILES: i32 = 512;

/// Opens trees that are kept by RocksDB. One per process.
pub struct RocksEngine {
    cache: Cache,
    memtables: WriteBufferManager,
    memtable_bytes: usize,
    n_background_jobs: i32,
}

impl RocksEngine {
    /// An engine whose trees together keep to this budget, and flush and compact in so many threads.
    pub fn new(budget: &MemoryBudget, n_background_jobs: usize) -> Self {
        let memtable_bytes = budget.memtable_bytes();
        // Zero is "find out how large entries are".
        let cache = Cache::new_hyper_clock_cache(budget.block_cache_bytes() + memtable_bytes, 0);
        let memtables = WriteBufferManager::new_write_buffer_manager_with_cache(
            memtable_bytes,
            false,
            cache.clone(),
        );
        RocksEngine {
            cache,
            memtables,
            memtable_bytes,
            n_background_jobs: i32::try_from(n_background_jobs).unwrap_or(i32::MAX).max(2),
        }
    }

    /// Bytes of blocks and memtables in memory, of all trees.
    pub fn memory_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    fn options(&self, create: bool, expiry: Expiry) -> Result<Options, rocksdb::Error> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_bloom_filter(10.0, false);
        table.set_block_size(4 << 10);
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);

        // The one option that the crate has no function for.
        let mut options =
            Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
        options.create_if_missing(create);
        options.set_error_if_exists(create);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_manager(&self.memtables);
        options.set_write_buffer_size(self.memtable_bytes.min(2 * LARGEST_MEMTABLE_BYTES) / 2);
        options.set_max_write_buffer_number(3);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.02);
        // There is one writer; alone, it remembers where it inserted last.
        options.set_allow_concurrent_memtable_write(false);
        options.set_compression_per_level(&[
            DBCompressionType::None,
            DBCompressionType::None,
            DBCompressionType::Lz4,
        ]);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_background_jobs(self.n_background_jobs);
        options.set_bytes_per_sync(1 << 20);
        options.set_max_open_files(MAX_OPEN_FILES);
        options.set_max_manifest_file_size(256 << 10);
        options.set_manifest_preallocation_size(64 << 10);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        if !expiry.is_never() {
            let decide =
                move |_level: u32, key: &[u8], value: &[u8]| match expiry.is_over(key, value) {
                    true => CompactionDecision::Remove,
                    false => CompactionDecision::Keep,
                };
            options.set_compaction_filter(c"expiry", decide);
        }
        Ok(options)
    }
}

impl LsmEngine for RocksEngine {
    fn open(&self, open: Open<'_>) -> Result<Box<dyn Lsm>> {
        let Open { dir, instance, files, expiry } = open;
        let names = Names::new(instance, files)?;
        make_empty(dir)?;
        for file in files {
            place(file, dir)?;
        }
        let failed = |e| failed(dir, "open", e);
        let options = self.options(files.is_empty(), expiry).map_err(failed)?;
        // Named, so that there is a handle to it: batched reads ask for one.
        let whole = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let db = DB::open_cf_descriptors(&options, dir, [whole]).map_err(failed)?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Box::new(RocksTree {
            db: Arc::new(db),
            dir: dir.to_owned(),
            names: Arc::new(names),
            gate: Gate::default(),
            unlogged,
            plain: ReadOptions::default(),
        }))
    }
}

struct RocksTree {
    db: Arc<DB>,
    dir: PathBuf,
    names: Arc<Names>,
    gate: Gate,
    unlogged: WriteOptions,
    plain: ReadOptions,
}

impl RocksTree {
    fn failed(&self, what: &str, e: rocksdb::Error) -> Error {
        failed(&self.dir, what, e)
    }

    fn write_batch(&self, batch: WriteBatch) -> Result<()> {
        self.db.write_opt(batch, &self.unlogged).map_err(|e| self.failed("write to", e))
    }

    fn property(&self, name: &rocksdb::properties::PropName) -> Result<u64> {
        let value = self.db.property_int_value(name).map_err(|e| self.failed("measure", e))?;
        Ok(value.unwrap_or(0))
    }
}

impl Lsm for RocksTree {
    fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        out.clear();
        let value = self.db.get_pinned_opt(key, &self.plain).map_err(|e| self.failed("read", e))?;
        if let Some(value) = &value {
            out.extend_from_slice(value);
        }
        Ok(value.is_some())
    }

    fn multi_get(
        &self,
        keys: &[&[u8]],
        sorted: bool,
        visit: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let whole = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).expect("it was opened by name");
        let values =
            self.db.batched_multi_get_cf_opt(whole, keys.iter().copied(), sorted, &self.plain);
        for (index, value) in values.into_iter().enumerate() {
            let value = value.map_err(|e| self.failed("read", e))?;
            visit(index, value.as_deref())?;
        }
        Ok(())
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(from);
        if let Some(to) = to {
            bounds.set_iterate_upper_bound(to);
        }
        let mut entries = self.db.raw_iterator_opt(bounds);
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|e| self.failed("read", e))
    }

    fn write(&mut self, ops: &mut dyn Iterator<Item = Op<'_>>) -> Result<()> {
        self.gate.check()?;
        let mut batch = WriteBatch::default();
        for op in ops {
            match op {
                Op::Put(key, value) => batch.put(key, value),
                Op::Delete(key) => batch.delete(key),
                Op::DeleteRange(from, to) if from < to => batch.delete_range(from, to),
                Op::DeleteRange(..) => {}
            }
            if batch.size_in_bytes() >= WRITE_BYTES {
                self.write_batch(std::mem::take(&mut batch))?;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.write_batch(batch) }
    }

    fn cut(&mut self, dir: &Path) -> Result<Cut> {
        let (db, names) = (Arc::clone(&self.db), Arc::clone(&self.names));
        let (own, dir) = (self.dir.clone(), dir.to_owned());
        self.gate.cut(move || {
            Checkpoint::new(&db)
                .and_then(|checkpoint| checkpoint.create_checkpoint(&dir))
                .map_err(|e| failed(&own, "take a checkpoint of", e))?;
            list(&dir, &names).map_err(|e| {
                Error::external(format!("cannot read the checkpoint in {}", dir.display()))
                    .caused_by(e)
            })
        })
    }

    fn compact(&mut self) -> Result<()> {
        self.gate.check()?;
        self.db.flush().map_err(|e| self.failed("flush", e))?;
        let mut all = CompactOptions::default();
        all.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &all);
        // That call cannot fail; what went wrong is remembered and told here.
        self.db
            .wait_for_compact(&WaitForCompactOptions::default())
            .map_err(|e| self.failed("compact", e))
    }

    fn size(&self) -> Result<LsmSize> {
        Ok(LsmSize {
            file_bytes: self.property(properties::LIVE_SST_FILES_SIZE)?,
            n_files: self.db.get_column_family_metadata().file_count as u64,
            memory_bytes: self.property(properties::SIZE_ALL_MEM_TABLES)?,
            n_keys: self.property(properties::ESTIMATE_NUM_KEYS)?,
            compaction_debt_bytes: self.property(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
        })
    }
}

/// Makes a tree's folder, which must be empty if it is there.
fn make_empty(dir: &Path) -> Result<()> {
    let failed =
        |e| Error::external(format!("cannot make the state folder {}", dir.display())).caused_by(e);
    fs::create_dir_all(dir).map_err(failed)?;
    match fs::read_dir(dir).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(Error::external(format!(
            "the state folder {} is not empty; another job may be using it",
            dir.display()
        ))),
    }
}

/// Puts a file into a tree's folder, by a hard link if it is never changed and that is possible.
fn place(file: &LsmFile, dir: &Path) -> Result<()> {
    let to = dir.join(file.local_name());
    match &file.content {
        Content::Memory(bytes) => fs::write(&to, bytes),
        Content::File(from) if file.immutable => {
            fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop))
        }
        Content::File(from) => fs::copy(from, &to).map(drop),
    }
    .and_then(|()| fs::metadata(&to))
    .map_err(|e| file.unusable(e))
    .and_then(|there| file.check_length(there.len()))
}

/// What of a checkpoint's folder is needed to open it, in order of names. Its options are ours, and its log
/// is empty.
fn list(dir: &Path, names: &Names) -> std::io::Result<Vec<LsmFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let local = entry.file_name().to_string_lossy().into_owned();
        let immutable = local.ends_with(".sst");
        if immutable || local == "CURRENT" || local.starts_with("MANIFEST-") {
            files.push(LsmFile {
                name: if immutable { names.of(&local) } else { local },
                bytes: entry.metadata()?.len(),
                immutable,
                content: Content::File(entry.path()),
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

#[cold]
fn failed(dir: &Path, what: &str, e: rocksdb::Error) -> Error {
    Error::external(format!("cannot {what} the state in {}", dir.display())).caused_by(e)
}
