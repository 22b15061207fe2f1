"""What a user names (files, folders, patterns, videos) as a list of jobs with the paths of their results."""

from __future__ import annotations

import collections
import contextlib
import functools
import glob
import os
from pathlib import PurePath

from kdscfnet.data.names import counted
from kdscfnet.errors import BadImageError, UserError
from kdscfnet.images import HEIF_SUFFIXES, IMAGE_SUFFIXES, NO_FILE
from kdscfnet.inference import outputs
from kdscfnet.inference.pipeline import Job
from kdscfnet.text import is_address

# taken from folders; a file that is named itself may have any suffix
FOLDER_SUFFIXES = (*IMAGE_SUFFIXES, *".gif .jfif .jpe .jp2 .ppm .pgm .pbm .pnm .avif .apng .tga".split())
VIDEO_SUFFIXES = tuple(".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .3gp .ogv .mts .m2ts .ts .vob .asf".split())
# pictures that people have and nobody here reads, or only with a further package
OTHER_PICTURES = (*HEIF_SUFFIXES, *".jxl .svg .psd .ico .exr .hdr .dng .cr2 .nef .arw .eps .pdf".split())
WRITTEN_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")

# A file to predict, and its name among the results: a relative path without suffix.
Item = collections.namedtuple("Item", ["path", "name"])


def plan_results(inputs, output, kinds, frames=False, left_out=None, background=None):
    """Decide what is read and where results go.

    Args:
        inputs: files, folders (sub-folders are kept) and patterns (`photos/**/*.jpg`).
        output: a folder; or the result's own name (.png, .jpg, .mp4, …) for one input and one kind.
        kinds: of outputs.KINDS. One kind goes to output/<name>.png, several to output/<kind>/<name>.png; one kind into
            the very folder of the input is called <name>_<kind>.png there, so that it is taken for no photograph.
        frames: results of videos are folders of pictures, not videos.
        left_out: a Counter, to which goes what folders hold and nobody reads (see `find`).
        background: what goes behind cut-outs, as a user names it: a file of that name is kept; None: nothing.

    Returns (image jobs, video jobs). Raises UserError for what is not there, and where an input would be overwritten.
    """
    suffix = os.path.splitext(output)[1].lower()
    # of a picture or a video, though it may not be written here
    single = not os.path.isdir(output) and suffix in (*FOLDER_SUFFIXES, *OTHER_PICTURES, *VIDEO_SUFFIXES, ".json")
    images, videos = find(inputs, None if single else output, frames, left_out)
    if single:
        _check_single(images, videos, output, kinds, frames, background is not None)
        jobs = [[Job(item.path, {kinds[0]: output}) for item in items] for items in (images, videos)]
    else:
        if os.path.exists(output) and not os.path.isdir(output):
            raise UserError("%s is a file, and results go to a folder: choose another name for -o" % output)
        if videos:
            from kdscfnet.inference.video import result_suffix
        jobs = (
            [_job(item, output, {kind: outputs.SUFFIXES[kind] for kind in kinds}) for item in images],
            [_job(item, output, dict.fromkeys(kinds, "" if frames else result_suffix(item.path))) for item in videos],
        )
    read_too = [background] if background and os.path.exists(background) else []
    _refuse_overwriting(jobs[0] + jobs[1], jobs[1] if frames else (), read_too)
    return jobs


def find(inputs, output=None, frames=False, left_out=None):
    """(images, videos) as lists of Item. Earlier results, in a folder `output` inside an input folder, are left out.

    frames: the results of videos are folders, which must have names of their own.
    left_out: a Counter of what input folders hold that looks like a picture and is not taken, by suffix, of files
        without a suffix, and of linked sub-folders, which may lead in circles.
    """
    left_out = collections.Counter() if left_out is None else left_out
    files = []  # (path, relative path)
    folders = []
    for text in inputs:
        if os.path.isdir(text):
            folders.append(text)
            continue
        if os.path.exists(text):
            files.append((text, os.path.basename(text)))
            continue
        if is_address(text):
            raise BadImageError(text, NO_FILE)
        if not glob.has_magic(text):
            raise UserError("there is no file or folder %s" % text)
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise UserError("nothing is called like %s" % text)
        root = text
        while glob.has_magic(root):
            root = os.path.dirname(root)
        root = root or "."
        results = _results_in(root, output)
        for match in matches:
            if os.path.isfile(match) and _is_wanted(match) and not _inside(match, results):
                files.append((match, os.path.relpath(match, root)))
    # several folders: each has its own folder among the results
    names = [os.path.basename(os.path.abspath(folder)) for folder in folders]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError("several folders are called %s, so their results would mix: predict them one by one" % twice[0])
    for folder, name in zip(folders, names):
        found = _walk(folder, _results_in(folder, output), left_out)
        if not found:
            others = " (left out: %s)" % counted(left_out) if any(left_out.values()) else ""
            raise UserError("%s holds no images and no videos%s" % (folder, others))
        prefix = name if len(folders) > 1 else ""
        files += [(path, os.path.join(prefix, os.path.relpath(path, folder))) for path in found]
    if not files:
        raise UserError("there are no images and no videos among the inputs")
    return _name(files, frames)


def _name(files, frames):
    """Items, with names that no two share: `a` for a.jpg, but `a.jpg` and `a.png` where both are there.

    No result has the name of a folder of results either: x.jpg beside a folder x.png, or the frames of a video x.mp4
    beside a folder x.
    """
    unique = {}
    for path, relative in files:
        unique.setdefault(_real(path), (path, relative))
    count = collections.Counter(os.path.splitext(relative)[0] for _, relative in unique.values())
    folders = {str(folder) for _, relative in unique.values() for folder in PurePath(relative).parents}
    as_files = {os.path.splitext(folder)[0] for folder in folders if _is_wanted(folder)}
    images, videos, first, taken = [], [], {}, set()
    for path, relative in unique.values():
        if relative in first:
            raise UserError("%s and %s would have one result: predict them one by one" % (first[relative], path))
        first[relative] = path
        stem, suffix = os.path.splitext(relative)
        is_video = suffix.lower() in VIDEO_SUFFIXES
        blocked = folders if is_video and frames else as_files
        name = stem if count[stem] == 1 and stem not in blocked and stem not in taken else relative
        while name in taken or name in blocked:
            name += "_"
        taken.add(name)
        (videos if is_video else images).append(Item(path, name))
    return images, videos


def _walk(folder, avoid, left_out):
    found = []
    for parent, folders, files in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(parent, name)) and not name.startswith(".")]
        left_out["linked folder"] += len(linked)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _inside(os.path.join(parent, f), avoid))
        for name in sorted(name for name in files if not name.startswith(".")):
            path, suffix = os.path.join(parent, name), os.path.splitext(name)[1].lower()
            if _is_wanted(path):
                found.append(path)
            elif suffix in (*OTHER_PICTURES, ""):
                left_out[suffix or "without suffix"] += 1
    return found


def _is_wanted(path):
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".ts" and not os.path.isdir(path):  # TypeScript has that suffix, too
        with contextlib.suppress(OSError), open(path, "rb") as file:
            return file.read(1) == b"G"  # the first byte of every packet of an MPEG transport stream
    return suffix in FOLDER_SUFFIXES + VIDEO_SUFFIXES


def _inside(path, folder):
    return folder is not None and (_real(path) + os.sep).startswith(folder + os.sep)


def _results_in(folder, output):
    """The real path of `output` where it lies inside the input folder `folder`, else None."""
    if output and _real(folder) == _real(output):
        raise UserError("results cannot go to the folder of the inputs, %s: choose another one for -o" % folder)
    return _real(output) if output and _inside(output, _real(folder)) else None


_real_folder = functools.lru_cache(maxsize=1024)(os.path.realpath)


def _real(path):
    folder, name = os.path.split(os.path.abspath(path))
    if not name or os.path.islink(path):
        return os.path.realpath(path)
    return os.path.join(_real_folder(folder), name)


def _check_single(images, videos, output, kinds, frames, opaque):
    """Raise UserError where the file `output` cannot hold the result."""
    suffix = os.path.splitext(output)[1].lower()
    if len(images) + len(videos) > 1 or len(kinds) > 1:
        raise UserError("%s is one file, and there is more than one result: name a folder for -o" % output)
    if videos:
        if suffix in VIDEO_SUFFIXES and suffix not in WRITTEN_VIDEOS:
            raise UserError("videos are written as %s: name the result so" % ", ".join(WRITTEN_VIDEOS))
        if suffix not in VIDEO_SUFFIXES or frames:
            raise UserError("%s cannot hold a video: name a folder or a file like out.mp4 for -o" % output)
    elif suffix in VIDEO_SUFFIXES:
        what = "%s is a video, and the input is an image: name a folder or a file like out.png for -o"
        raise UserError(what % output)
    else:
        outputs.suffix_of(output, kinds[0], opaque)


def _job(item, output, suffixes):
    """The job of one item whose results go to the folder `output`; `suffixes`: {kind: suffix}."""
    if len(suffixes) > 1:
        names = {kind: item.name + suffix for kind, suffix in suffixes.items()}
        return Job(item.path, {kind: os.path.join(output, kind, name) for kind, name in names.items()})
    ((kind, suffix),) = suffixes.items()
    target = os.path.join(output, item.name)
    if os.path.dirname(_real(target)) == os.path.dirname(_real(item.path)):
        target += "_" + kind
    return Job(item.path, {kind: target + suffix})


def _refuse_overwriting(jobs, into_folders, read_too):
    """No result may have the path of an input, by whatever name; jobs in `into_folders` put frames in none's folder."""
    inputs = {_real(path): path for path in [*(job.input for job in jobs), *read_too]}
    for job in into_folders:
        for folder in job.outputs.values():
            inside = [path for real, path in inputs.items() if _inside(path, _real(folder))]
            if inside:
                what = "the frames of %s would go to the folder %s, where the input %s is: choose another name for -o"
                raise UserError(what % (job.input, folder, inside[0]))
    for job in jobs:
        for path in job.outputs.values():
            if _real(path) in inputs:
                names = path, inputs[_real(path)]
                raise UserError("the result %s would overwrite the input %s: choose another name for -o" % names)
