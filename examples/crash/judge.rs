//! Power cuts: what a run may have left on its device, opened, checked and compared.

use std::sync::Arc;

use extent_map::device::{BlockDevice, ImageDevice, PowerCut, Survivors};
use extent_map::file::Volume;
use extent_map::units::FileNumber;

use super::run::Run;

/// One in so many images is also written to.
const USED: u64 = 8;

/// Cuts the power at every moment of `run` at which the device may hold something new, and judges `random` images of what
/// may have arrived beside the one with nothing and the one with everything. Where that would be more than about `most`
/// images, at moments evenly spread. Returns how many images that were.
///
/// # Errors
/// What is wrong with the first image that is not as it should be.
pub(crate) fn judge(run: &Run, random: u64, seed: u64, most: u64) -> Result<u64, String> {
    let mut counted = run.recording.power_cut();
    let moments = 1 + std::iter::from_fn(|| counted.advance().then_some(())).count() as u64;
    let stride = moments.div_ceil((most / (random + 2)).max(1));
    let mut cut = run.recording.power_cut();
    let mut images = 0;
    let mut number = seed % stride;
    loop {
        if number.is_multiple_of(stride) {
            let moment = cut.moment();
            let seeds =
                (0..random).map(|n| Survivors::Random(seed ^ (moment as u64 * random + n) << 8));
            let kinds = [Survivors::Nothing, Survivors::Everything].into_iter();
            for survivors in kinds.chain(seeds) {
                images += 1;
                judge_image(run, &cut, survivors, images % USED == 0)
                    .map_err(|wrong| format!("moment {moment}, {survivors:?}: {wrong}"))?;
            }
        }
        number += 1;
        if !cut.advance() {
            return Ok(images);
        }
    }
}

fn judge_image(
    run: &Run,
    cut: &PowerCut<'_>,
    survivors: Survivors,
    used: bool,
) -> Result<(), String> {
    let image = Arc::new(cut.image(survivors));
    is_clean(&image)?;
    let volume = Volume::open(image.clone(), &run.options).map_err(|error| error.to_string())?;
    if let Err(violations) = extent_map::testing::check(&volume) {
        return Err(format!("{violations:?}"));
    }
    for (number, history) in &run.histories {
        let content = content(&volume, *number).map_err(|error| error.to_string())?;
        if let Some(wrong) = history.contradicts(cut.moment(), &content) {
            return Err(format!("{number}: {wrong}"));
        }
    }
    match used {
        true => still_works(volume, &image, run).map_err(|error| error.to_string())?,
        false => Ok(()),
    }
}

fn is_clean(image: &ImageDevice) -> Result<(), String> {
    let findings = Volume::check(image).map_err(|error| error.to_string())?;
    match findings.is_empty() {
        true => Ok(()),
        false => Err(format!("{findings:?}")),
    }
}

fn content(volume: &Volume, number: FileNumber) -> extent_map::Result<Vec<u8>> {
    let file = volume.file(number)?;
    let mut content = vec![0; file.size() as usize];
    file.read_at(0, &mut content)?;
    Ok(content)
}

/// Writes, closes and opens the volume: what was recovered must last.
fn still_works(
    volume: Volume,
    image: &Arc<ImageDevice>,
    run: &Run,
) -> extent_map::Result<Result<(), String>> {
    let files: Vec<FileNumber> = run.histories.iter().map(|(number, _)| *number).collect();
    let new = FileNumber(files.len() as u64 + 7);
    let mut expected = Vec::new();
    for number in &files {
        expected.push((*number, content(&volume, *number)?));
    }
    let wrote = volume.file(new)?.write_at(100, b"after the crash");
    volume.close()?;
    let device: Arc<dyn BlockDevice> = image.clone();
    let volume = Volume::open(device, &run.options)?;
    for (number, before) in expected {
        if content(&volume, number)? != before {
            return Ok(Err(format!("{number} did not last")));
        }
    }
    // A full volume has refused it.
    if wrote.is_ok() && !content(&volume, new)?.ends_with(b"after the crash") {
        return Ok(Err("a new file did not last".into()));
    }
    volume.close()?;
    Ok(is_clean(image))
}
