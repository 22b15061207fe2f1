"""Unpacking data sets from the zip files in which they are handed around, into data/<SET>/image and data/<SET>/mask.

AI Studio mounts them as data/data97810/*.zip, one set in a file or several, at any depth, some with further zip files
inside, some with the images in one file and the masks in another.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib

from kdscfnet.data import lists
from kdscfnet.data.find import IMAGE_FOLDER, MASK_FOLDER
from kdscfnet.data.sets import KNOWN_SETS, canonical_name
from kdscfnet.errors import UserError
from kdscfnet.files import existing_folder
from kdscfnet.images import IMAGE_SUFFIXES
from kdscfnet.text import progress

OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
# says nothing about which set it is
_GENERIC = re.compile(r"^(data|datasets?|sod|saliency|train|training|test|testing|val|archive|\d*)$", re.I)
# of the zip file's own name: DUT-OMRON-image.zip, ECSSD_gt.zip
_PART = re.compile(r"([-_. ]*(images?|imgs?|masks?|gts?|ground[-_]?truths?|pixelwise|png|jpg))+$", re.I)


def unpack(mounts, data, say=print):
    """Unpack the zip files under some folders into `data`; what is there already is left as it is.

    Args:
        mounts: folders to look through, with their sub-folders; those that are not there count as empty.
        data: where the sets go: data/<SET>/image, data/<SET>/mask, and the set's list of names if it has one.

    Returns {name of the set: folder} of all sets that came from zip files, now or earlier. A folder of images is there
    whole or not at all. Raises UserError for a damaged file, and where the disk is too small.
    """
    data, found, seen = os.fspath(data), {}, set()
    for mount in map(os.fspath, mounts):
        for path in _archives(mount, data):
            if os.path.realpath(path) in seen:
                continue
            seen.add(os.path.realpath(path))
            if path.lower().endswith(OTHER_ARCHIVES):
                say("left alone: %s is no zip file: unpack it by hand into %s" % (path, data))
                continue
            relative = os.path.relpath(path, os.path.dirname(os.path.abspath(mount)))
            found.update((name, os.path.join(data, name)) for name in _unpack_one(path, relative, data, say))
    return found


def _archives(mount, data):
    """The paths of the archives under a folder; sets that are unpacked are not looked through."""
    for folder, folders, files in os.walk(mount):
        inside_data = os.path.realpath(folder) == os.path.realpath(data)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not (inside_data and f in KNOWN_SETS))
        for file in sorted(files):
            if file.lower().endswith((".zip",) + OTHER_ARCHIVES) and not file.startswith("."):
                yield os.path.join(folder, file)


def _unpack_one(source, relative, data, say):
    """Unpack a zip file, a path or open. `relative`: a path that may tell which set it is. Returns its sets' names."""
    with _damage_is_named(relative), zipfile.ZipFile(source) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        names = [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in _parts(name))]
        folders, inner = sort_members(names, relative)
        if not folders and not inner:
            say("left alone: %s holds no data set that is known here" % relative)
        sets = [name for name, _ in folders]
        for (name, kind), members in folders.items():
            target = os.path.join(data, name, kind)
            if os.path.exists(target):
                say("%s: there already" % target)
                continue
            _require_space(data, archive, members.values(), relative)
            _extract(archive, members, target, "%s/%s" % (name, kind))
            say("%s: %d files from %s" % (target, len(members), relative))
        for member in inner:
            _require_space(data, archive, [member], relative)
            os.makedirs(data, exist_ok=True)
            # a zip file inside a zip file is read here and there, which only a file of its own allows
            with tempfile.TemporaryFile(prefix=".tmp-", dir=data) as copy, archive.open(member) as stream:
                shutil.copyfileobj(stream, copy, 1 << 20)
                sets += _unpack_one(copy, os.path.join(relative, *_parts(member)), data, say)
    return sets


def sort_members(names, archive):
    """What a zip file holds.

    Args:
        names: of its members, with "/" or "\\" between folders.
        archive: its own path, whose last parts may tell which set it is: data97810/ECSSD.zip.

    Returns ({(set, "image" or "mask"): {file name: member}}, [members that are zip files]). File names have the
    sub-folders by sequence or class, `seq1/0001.jpg`. Lists of names, train.txt or test.txt, are members of
    (set, "image") under the name ../train.txt.
    """
    folders, by_folder = {}, {}
    inner = sorted(name for name in names if name.lower().endswith(".zip"))
    for name in sorted(names):
        if name.lower().endswith(IMAGE_SUFFIXES):
            by_folder.setdefault(_parts(name)[:-1], []).append(name)
    homes = {}
    for folder, members in by_folder.items():
        # the last folder of images or of masks; those in it are by sequence or class: image/seq1/0001.jpg
        depths = [i for i, part in enumerate(folder) if IMAGE_FOLDER.match(part) or MASK_FOLDER.match(part)]
        depth = depths[-1] if depths else len(folder) - 1
        kind_folder, inside = folder[depth] if folder else "", folder[depth + 1 :]
        home = folder[:depth] if depths else folder
        set_name = _set_name(folder[: max(depth, 0)], kind_folder, archive)
        for part in inside if set_name not in KNOWN_SETS else ():
            if canonical_name(part) in KNOWN_SETS:  # image/ECSSD/0001.jpg
                set_name, inside = canonical_name(part), inside[inside.index(part) + 1 :]
                break
        if depths:
            kinds = {"image" if IMAGE_FOLDER.match(kind_folder) else "mask": members}
        elif set_name in KNOWN_SETS:
            kinds = _by_suffix(members, archive)
        else:
            continue  # pictures of something else
        homes[home] = set_name
        for kind, chosen in kinds.items():
            files = folders.setdefault((set_name, kind), {})
            for member in chosen:
                name = "/".join((*inside, _parts(member)[-1]))
                if name in files:  # of another folder: 1/001.jpg, 2/001.jpg
                    name = "_".join(_parts(member)[-2:])
                files[name] = member
    for name in sorted(names):
        *folder, file = _parts(name) or [""]
        key = (homes.get(tuple(folder)), "image")
        if file.lower() in lists.NAMES and key in folders:
            folders[key]["../" + file] = name
    return folders, inner


def _parts(name):
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def _by_suffix(members, archive):
    """Images and masks side by side in one folder, or images alone."""
    jpegs = [m for m in members if m.lower().endswith((".jpg", ".jpeg"))]
    if jpegs and len(jpegs) < len(members):
        return {"image": jpegs, "mask": [m for m in members if m not in set(jpegs)]}
    stem = os.path.splitext(os.path.basename(archive))[0]
    is_mask = _PART.search(stem) and not re.search(r"(images?|imgs?|jpg)$", stem, re.I)
    return {"mask" if is_mask else "image": members}


def _set_name(home, last, archive):
    """The name of the set whose folders are in `home` (a tuple of folder names) of the zip file `archive`."""
    parts = _parts(os.path.splitext(archive)[0])
    # DUTS-TE/DUTS-TE-Image; DUTS-TE-Image alone; ECSSD.zip; data97810/ECSSD/images.zip
    candidates = [*reversed(home), last, *reversed(parts)]
    candidates = [bare for candidate in candidates for bare in (candidate, _PART.sub("", candidate)) if bare]
    for candidate in candidates:
        if canonical_name(candidate) in KNOWN_SETS:
            return canonical_name(candidate)
    nothing = (_GENERIC, IMAGE_FOLDER, MASK_FOLDER)
    own = [candidate for candidate in candidates if not any(pattern.match(candidate) for pattern in nothing)]
    return re.sub(r"[^\w.-]", "_", own[0]) if own else "unnamed"


def _require_space(data, archive, members, relative):
    size, folder = sum(archive.getinfo(member).file_size for member in members), existing_folder(data)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError("%s needs %.1f GB in %s, and %.1f are free" % (relative, size / 1e9, folder, free / 1e9))


def _extract(archive, members, target, title):
    """Write members to a folder that gets its name when it is complete."""
    home, kind = os.path.split(target)
    data, prefix = os.path.dirname(home), ".tmp-%s-" % title.replace("/", "-")
    os.makedirs(data, exist_ok=True)
    for entry in os.listdir(data):  # of a process that was killed
        if entry.startswith(prefix):
            shutil.rmtree(os.path.join(data, entry), ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=data) as temporary:
        for name, member in progress(members.items(), total=len(members), desc=title, unit=" files", leave=False):
            place = os.path.join(temporary, kind, name)  # of a list, ../train.txt, beside the folder
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with archive.open(member) as source, open(place, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        os.makedirs(home, exist_ok=True)
        for entry in sorted(os.listdir(temporary), key=lambda entry: entry == kind):  # lists first
            os.replace(os.path.join(temporary, entry), os.path.join(home, entry))


@contextlib.contextmanager
def _damage_is_named(relative):
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError("%s is damaged (%s): upload or download it again" % (relative, error))
    except RuntimeError as error:  # another compression, or a password
        raise UserError("%s cannot be unpacked here (%s): unpack it by hand" % (relative, error))
