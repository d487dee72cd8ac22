//! What a store that watches or changes some calls passes on to another one.

/// The methods of a `MappingStore` that do just what those of the field `truth` do, by their names.
macro_rules! passed_on {
    ($($name:ident)*) => { $(passed_on!(@$name);)* };
    (@query) => { passed_on!(query(file: FileNumber, block: FileBlock) -> Mapping); };
    (@last_before) => {
        passed_on!(last_before(file: FileNumber, block: FileBlock) -> Option<MappedExtent>);
    };
    (@extents) => {
        passed_on!(extents(file: FileNumber, range: FileRange) -> Vec<MappedExtent>);
    };
    (@convert) => {
        passed_on!(convert(file: FileNumber, range: FileRange, to: ExtentState) -> ());
    };
    (@shift) => { passed_on!(shift(file: FileNumber, from: FileBlock, by: Shift) -> ()); };
    (@size) => { passed_on!(size(file: FileNumber) -> u64); };
    (@set_size) => { passed_on!(set_size(file: FileNumber, bytes: u64) -> ()); };
    (@extend_size) => { passed_on!(extend_size(file: FileNumber, bytes: u64) -> ()); };
    (@inline_data) => { passed_on!(inline_data(file: FileNumber) -> Option<Arc<[u8]>>); };
    (@set_inline_data) => {
        passed_on!(set_inline_data(file: FileNumber, bytes: Option<Arc<[u8]>>) -> ());
    };
    (@files) => { passed_on!(files() -> Vec<FileNumber>); };
    (@commit) => {
        fn commit(&self, data: &extent_map::block::BlockQueue) -> Result<()> {
            self.truth.commit(data)
        }
    };
    ($name:ident($($argument:ident: $type:ty),*) -> $answer:ty) => {
        fn $name(&self, $($argument: $type),*) -> Result<$answer> {
            self.truth.$name($($argument),*)
        }
    };
}
pub(crate) use passed_on;
