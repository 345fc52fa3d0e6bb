//! What may be on a disk after a power cut, by what was done to it before.
//!
//! Only what was synced is sure to be there: content when its *file* was synced, a name when the *folder* that holds it
//! was. Of everything else each step may have happened or not, whatever came after it; a write may have been cut off, or have
//! left nothing but the length. That is what POSIX promises, and less than what any one file system does (Pillai et al.,
//! "All File Systems Are Not Created Equal", OSDI 2014, sections 2 and 3, which also take a run's steps apart like this). Two
//! things are taken for granted, as there: a rename or a link happens as a whole or not at all, and is there when the folder of
//! the new name was synced; and steps that concern one name happen in their order.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::journal::{Entry, Op};
use crate::random::Random;

/// A file or a folder of all that ever were; not its inode number, which comes again.
type Node = usize;

/// A name in a folder.
type Name = (Node, Vec<u8>);

/// The node of the folder that everything lies in.
const ROOT: Node = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// A new name of a node.
    Name(Name, Node),
    /// Another name of a node in place of the first.
    Rename(Name, Name, Node),
    Unlink(Name),
    Write(Node, u64, Vec<u8>),
    SetLength(Node, u64),
    Sync(Node),
}

impl Change {
    /// What has to be synced for this to be sure to survive.
    fn lies_in(&self) -> Option<Node> {
        match self {
            Change::Name((folder, _), _)
            | Change::Rename(_, (folder, _), _)
            | Change::Unlink((folder, _)) => Some(*folder),
            Change::Write(file, ..) | Change::SetLength(file, _) => Some(*file),
            Change::Sync(_) => None,
        }
    }

    fn is_of_names(&self) -> bool {
        matches!(self, Change::Name(..) | Change::Rename(..) | Change::Unlink(_))
    }
}

/// A change, and the number of the step that synced it.
#[derive(Clone, Debug)]
struct Step {
    change: Change,
    synced_at: Option<usize>,
}

/// What survives of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mercy {
    /// Nothing.
    None,
    /// All names, no content.
    Names,
    /// All content, no names.
    Content,
    /// Each step with luck, told by this number.
    Luck(u64),
    /// All of it: the process died, and the power stayed.
    All,
}

/// What a step has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    Nothing,
    Whole,
    /// So many parts of 256 of what it wrote.
    Begun(u64),
    /// The file has the length of after it, and not the content.
    Length,
}

/// All files below a folder by their paths; a folder has no content.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A folder, and what was done to it since.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The content in the beginning; nothing for folders and for what came later.
    content: Vec<Vec<u8>>,
    is_folder: Vec<bool>,
    /// The names in the beginning.
    names: BTreeMap<Name, Node>,
    /// The names after all steps.
    names_now: BTreeMap<Name, Node>,
    /// Who has an inode number then.
    inodes: HashMap<u64, Node>,
    /// A path of each node: what it was called first, or renamed to.
    paths: Vec<PathBuf>,
    steps: Vec<Step>,
    /// What of each node is not synced: the numbers of entries, unless those are in a journal that has ended, and of steps.
    unsynced: HashMap<Node, Vec<(Option<u64>, usize)>>,
}

impl Disk {
    /// The folder `root` as it is: all of it is taken to be synced.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(root: &Path) -> io::Result<Disk> {
        let mut disk = Disk {
            content: Vec::new(),
            is_folder: Vec::new(),
            names: BTreeMap::new(),
            names_now: BTreeMap::new(),
            inodes: HashMap::new(),
            paths: Vec::new(),
            steps: Vec::new(),
            unsynced: HashMap::new(),
        };
        disk.add(fs::metadata(root)?.ino(), true, PathBuf::new());
        disk.read_folder(root, ROOT)?;
        disk.names_now = disk.names.clone();
        Ok(disk)
    }

    fn read_folder(&mut self, path: &Path, folder: Node) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let (metadata, name) = (entry.metadata()?, entry.file_name());
            let node = match self.inodes.get(&metadata.ino()) {
                // One more name of a file.
                Some(node) => *node,
                None => {
                    let path = self.paths[folder].join(&name);
                    let node = self.add(metadata.ino(), metadata.is_dir(), path);
                    match metadata.is_dir() {
                        true => self.read_folder(&entry.path(), node)?,
                        false => self.content[node] = fs::read(entry.path())?,
                    }
                    node
                }
            };
            self.names.insert((folder, name.as_bytes().to_vec()), node);
        }
        Ok(())
    }

    fn add(&mut self, inode: u64, is_folder: bool, path: PathBuf) -> Node {
        let node = self.content.len();
        self.content.push(Vec::new());
        self.is_folder.push(is_folder);
        self.paths.push(path);
        self.inodes.insert(inode, node);
        node
    }

    /// How many steps were taken.
    pub fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// After how many steps something has just got a name or lost one: there an order is easily wrong.
    pub fn changes_of_names(&self) -> Vec<usize> {
        let steps = (1..).zip(&self.steps);
        steps.filter(|(_, step)| step.change.is_of_names()).map(|(n, _)| n).collect()
    }

    /// After how many steps a folder has just been synced: something is sure to survive now that others count on.
    pub fn syncs_of_folders(&self) -> Vec<usize> {
        let is_one =
            |change: &Change| matches!(change, Change::Sync(node) if self.is_folder[*node]);
        let steps = (1..).zip(&self.steps);
        steps.filter(|(_, step)| is_one(&step.change)).map(|(n, _)| n).collect()
    }

    /// Takes the steps of a journal, on top of those there are. A sync of what `is_forgotten` says (a path, and whether it is a
    /// folder) is none.
    ///
    /// # Errors
    /// A step that cannot be: the journal is not of this folder, or says not everything.
    pub fn go_on(
        &mut self,
        journal: Vec<Op>,
        is_forgotten: impl Fn(&Path, bool) -> bool,
    ) -> Result<(), String> {
        // Before all that this journal tells.
        self.unsynced.values_mut().flatten().for_each(|(entry, _)| *entry = None);
        for (entry, op) in (0..).zip(journal) {
            let change = match op {
                Op::Sync { what, began } => {
                    // One that has no name any more, or never had one here.
                    let Some(node) = self.inodes.get(&what).copied() else { continue };
                    if is_forgotten(&self.paths[node], self.is_folder[node]) {
                        continue;
                    }
                    let now = self.steps.len();
                    let unsynced = self.unsynced.entry(node).or_default();
                    let is_of_before = |entry: Option<u64>| entry.is_none_or(|entry| entry < began);
                    for (_, step) in unsynced.extract_if(.., |(entry, _)| is_of_before(*entry)) {
                        self.steps[step].synced_at = Some(now);
                    }
                    Change::Sync(node)
                }
                Op::Create { at, file } => self.appears(at, file, false)?,
                Op::MakeFolder { at, folder } => self.appears(at, folder, true)?,
                Op::Link { at, file } => Change::Name(self.name(at)?, self.node(file)?),
                Op::Rename { from, to } => {
                    let (from, to) = (self.name(from)?, self.name(to)?);
                    let node = self.names_now.get(&from).copied();
                    let node =
                        node.ok_or_else(|| format!("{from:?} is renamed, and is not there"))?;
                    self.paths[node] = self.path(&to);
                    Change::Rename(from, to, node)
                }
                Op::Unlink { at } => Change::Unlink(self.name(at)?),
                Op::Write { file, offset, bytes } => Change::Write(self.node(file)?, offset, bytes),
                Op::SetLength { file, length } => Change::SetLength(self.node(file)?, length),
            };
            happen(&change, Trace::Whole, None, &mut self.names_now);
            if let Some(node) = change.lies_in() {
                self.unsynced.entry(node).or_default().push((Some(entry), self.steps.len()));
            }
            self.steps.push(Step { change, synced_at: None });
        }
        Ok(())
    }

    fn node(&self, inode: u64) -> Result<Node, String> {
        let node = self.inodes.get(&inode).copied();
        node.ok_or_else(|| {
            format!("the journal speaks of inode {inode}, and nobody has seen it come")
        })
    }

    fn name(&self, at: Entry) -> Result<Name, String> {
        Ok((self.node(at.folder)?, at.name))
    }

    fn appears(&mut self, at: Entry, inode: u64, is_folder: bool) -> Result<Change, String> {
        let name = self.name(at)?;
        let node = self.add(inode, is_folder, self.path(&name));
        Ok(Change::Name(name, node))
    }

    fn path(&self, (folder, name): &Name) -> PathBuf {
        self.paths[*folder].join(OsStr::from_bytes(name))
    }

    /// What is there when the power goes after the first `n` steps.
    pub fn after(&self, n: usize, mercy: Mercy) -> Tree {
        let mut luck = Random(if let Mercy::Luck(seed) = mercy { seed } else { 0 });
        let (mut content, mut names) = (self.content.clone(), self.names.clone());
        for step in &self.steps[..n] {
            let is_of_names = step.change.is_of_names();
            let trace = match mercy {
                _ if step.synced_at.is_some_and(|at| at < n) => Trace::Whole,
                Mercy::All => Trace::Whole,
                Mercy::Names if is_of_names => Trace::Whole,
                Mercy::Content if !is_of_names => Trace::Whole,
                Mercy::None | Mercy::Names | Mercy::Content => Trace::Nothing,
                Mercy::Luck(_) => match luck.below(if is_of_names { 2 } else { 4 }) {
                    0 => Trace::Nothing,
                    1 => Trace::Whole,
                    2 => Trace::Begun(luck.below(256)),
                    _ => Trace::Length,
                },
            };
            if trace != Trace::Nothing {
                happen(&step.change, trace, Some(&mut content), &mut names);
            }
        }
        self.tree(&content, &names)
    }

    fn tree(&self, content: &[Vec<u8>], names: &BTreeMap<Name, Node>) -> Tree {
        let mut tree = Tree::new();
        let mut folders = vec![(ROOT, PathBuf::new())];
        while let Some((folder, path)) = folders.pop() {
            for ((_, name), node) in names.range((folder, Vec::new())..(folder + 1, Vec::new())) {
                let path = path.join(OsStr::from_bytes(name));
                if self.is_folder[*node] {
                    folders.push((*node, path.clone()));
                    tree.insert(path, None);
                } else {
                    tree.insert(path, Some(content[*node].clone()));
                }
            }
        }
        tree
    }

    /// Whether the journal has told everything: what should be in the folder, if the power stays, is.
    ///
    /// # Errors
    /// The first path by which they differ.
    pub fn is_as(&self, root: &Path) -> Result<(), String> {
        let expected = self.after(self.n_steps(), Mercy::All);
        let found = Disk::read(root).map_err(|e| format!("cannot read {}: {e}", root.display()))?;
        let found = found.after(0, Mercy::All);
        let paths = expected.keys().chain(found.keys());
        match paths.into_iter().find(|path| expected.get(*path) != found.get(*path)) {
            None => Ok(()),
            Some(path) => Err(format!(
                "the journal has not told what became of `{}` ({:?} where it says {:?}, in bytes): the recorder \
                 misses a function that changes files",
                path.display(),
                found.get(path).map(|content| content.as_ref().map(Vec::len)),
                expected.get(path).map(|content| content.as_ref().map(Vec::len)),
            )),
        }
    }
}

/// Does to names, and to `content` if that is of interest, what a change has left.
fn happen(
    change: &Change,
    trace: Trace,
    content: Option<&mut Vec<Vec<u8>>>,
    names: &mut BTreeMap<Name, Node>,
) {
    match (change, content) {
        (Change::Name(name, node), _) => {
            names.insert(name.clone(), *node);
        }
        (Change::Rename(from, to, node), _) => {
            // Its old name need not have survived.
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
        (Change::Unlink(name), _) => {
            names.remove(name);
        }
        (Change::Write(file, offset, bytes), Some(content)) => {
            let n = match trace {
                Trace::Begun(parts) => bytes.len() * parts as usize / 256,
                _ => bytes.len(),
            };
            let (file, from) = (&mut content[*file], *offset as usize);
            if n == 0 {
                return;
            }
            if file.len() < from + n {
                file.resize(from + n, 0);
            }
            if trace != Trace::Length {
                file[from..from + n].copy_from_slice(&bytes[..n]);
            }
        }
        (Change::SetLength(file, length), Some(content)) => {
            content[*file].resize(*length as usize, 0);
        }
        (Change::Write(..) | Change::SetLength(..), None) | (Change::Sync(_), _) => {}
    }
}

/// Makes the folder `root` hold this, and nothing else.
///
/// # Errors
/// If that cannot be done.
pub fn write(tree: &Tree, root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    for (path, content) in tree {
        match content {
            None => fs::create_dir_all(root.join(path))?,
            Some(content) => fs::write(root.join(path), content)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: u64, name: &str) -> Entry {
        Entry { folder, name: name.as_bytes().to_vec() }
    }

    const FILE: u64 = u64::MAX;

    /// What is left of a file that is written, synced if `data`, renamed, and whose folder is synced if `folder`.
    fn left(data: bool, folder: bool, mercy: Mercy) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let root = fs::metadata(dir.path()).unwrap().ino();
        let mut disk = Disk::read(dir.path()).unwrap();
        let mut journal = vec![
            Op::Create { at: at(root, "a.new"), file: FILE },
            Op::Write { file: FILE, offset: 0, bytes: b"new".to_vec() },
        ];
        journal.extend(data.then_some(Op::Sync { what: FILE, began: 2 }));
        journal.push(Op::Rename { from: at(root, "a.new"), to: at(root, "a") });
        journal.extend(folder.then_some(Op::Sync { what: root, began: journal.len() as u64 }));
        disk.go_on(journal, |_, _| false).unwrap();
        write(&disk.after(disk.n_steps(), mercy), dir.path()).unwrap();
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        };
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(read).collect();
        left.sort();
        left
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_need_not() {
        let file = |name: &str, content: &str| vec![(name.to_owned(), content.to_owned())];
        for mercy in [Mercy::None, Mercy::Names, Mercy::Content, Mercy::Luck(3), Mercy::All] {
            assert_eq!(left(true, true, mercy), file("a", "new"), "{mercy:?}");
        }
        assert_eq!(left(true, false, Mercy::None), file("a", "old"));
        assert_eq!(left(false, true, Mercy::None), file("a", ""));
        assert_eq!(left(false, false, Mercy::Names), file("a", ""));
        assert_eq!(left(false, false, Mercy::Content), file("a", "old"));
        assert_eq!(left(false, false, Mercy::All), file("a", "new"));
    }

    #[test]
    fn luck_leaves_every_mixture_and_a_number_tells_which() {
        let mixtures: std::collections::BTreeSet<_> =
            (0..200).map(|seed| left(false, false, Mercy::Luck(seed))).collect();
        let seen = |name: &str, content: &str| {
            mixtures.iter().flatten().any(|(n, c)| n == name && c == content)
        };
        assert!(seen("a", "old") && seen("a", "new") && seen("a", "") && seen("a", "\0\0\0"));
        assert!(seen("a.new", "") && seen("a", "n"));
        assert_eq!(left(false, false, Mercy::Luck(5)), left(false, false, Mercy::Luck(5)));
    }

    #[test]
    fn a_name_that_moved_to_a_synced_folder_is_there_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().ino();
        let mut disk = Disk::read(dir.path()).unwrap();
        let journal = vec![
            Op::MakeFolder { at: at(root, "staged"), folder: 1 },
            Op::MakeFolder { at: at(root, "done"), folder: 2 },
            Op::Sync { what: root, began: 2 },
            Op::Create { at: at(1, "x"), file: FILE },
            Op::Rename { from: at(1, "x"), to: at(2, "y") },
            Op::Sync { what: 2, began: 5 },
        ];
        disk.go_on(journal, |_, _| false).unwrap();
        let files = |n| -> Vec<_> {
            let tree = disk.after(n, Mercy::None);
            tree.into_iter().filter_map(|(path, content)| content.map(|_| path)).collect()
        };
        assert_eq!(files(disk.n_steps()), [Path::new("done/y")]);
        assert!(files(disk.n_steps() - 1).is_empty());
    }

    #[test]
    fn a_sync_that_is_forgotten_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().ino();
        for is_forgotten in [false, true] {
            let mut disk = Disk::read(dir.path()).unwrap();
            let made = Op::Create { at: at(root, "x"), file: FILE };
            let sync = Op::Sync { what: root, began: 1 };
            disk.go_on(vec![made, sync], |_, _| is_forgotten).unwrap();
            assert_eq!(disk.after(disk.n_steps(), Mercy::None).is_empty(), is_forgotten);
        }
    }

    #[test]
    fn a_sync_is_of_what_was_there_when_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().ino();
        let mut disk = Disk::read(dir.path()).unwrap();
        let made = |name, file| Op::Create { at: at(root, name), file };
        let sync = Op::Sync { what: root, began: 1 };
        disk.go_on(vec![made("a", FILE), made("b", 1), sync], |_, _| false).unwrap();
        let left: Vec<_> = disk.after(disk.n_steps(), Mercy::None).into_keys().collect();
        assert_eq!(left, [Path::new("a")]);
    }

    #[test]
    fn writes_that_follow_a_lost_one_have_a_gap_or_are_lost_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::metadata(dir.path()).unwrap().ino();
        let mut disk = Disk::read(dir.path()).unwrap();
        let write = |offset, bytes: &[u8]| Op::Write { file: FILE, offset, bytes: bytes.to_vec() };
        let made = Op::Create { at: at(root, "x"), file: FILE };
        let journal = vec![made, write(0, b"ab"), write(2, b"c"), write(3, b"de")];
        disk.go_on(journal, |_, _| false).unwrap();
        for seed in 0..500 {
            let tree = disk.after(disk.n_steps(), Mercy::Luck(seed));
            let content = tree.into_values().flatten().next().unwrap_or_default();
            let is_left = |(found, written): (&u8, &u8)| *found == 0 || found == written;
            assert!(content.len() <= 5 && content.iter().zip(b"abcde").all(is_left), "{content:?}");
        }
    }

    #[test]
    fn a_journal_that_misses_something_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::read(dir.path()).unwrap();
        assert_eq!(disk.is_as(dir.path()), Ok(()));
        fs::write(dir.path().join("unseen"), "").unwrap();
        let said = disk.is_as(dir.path()).unwrap_err();
        assert!(said.contains("`unseen`"), "{said}");
    }
}
