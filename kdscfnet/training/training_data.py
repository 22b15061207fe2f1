"""What a training learns from and is measured on: found, looked at and counted before anything is written."""

from __future__ import annotations

import os
from dataclasses import replace

from kdscfnet.data.check import scan, target_levels
from kdscfnet.data.find import find_image_set, merge_sets
from kdscfnet.data.lists import FOR_VALIDATION
from kdscfnet.data.names import list_images, match_names
from kdscfnet.errors import UserError


def find_training_data(recipe, options, say):
    """Find the data of a training: files that can be read whole. `say` gets lines of what is found and left out.

    Returns (an ImageSet, whose masks and teacher's maps are the targets; what its masks' levels become, uint8 [256] or
    None; the ImageSet to measure on, or None; [[name, number of images]] of the sets that the first one comes from).
    Raises UserError for what is missing or, without --skip-bad, cannot be read whole.
    """
    masks = "ignored" if recipe.teacher else "required"
    sets = find_training_sets(options.images or options.data, recipe.data, masks)
    for one in sets:
        say(one.describe())
    if options.teacher_maps:
        sets = with_maps(options.teacher_maps, sets)
    image_set = merge_sets(sets)
    validation = None
    if recipe.hold_out:
        labelled = image_set
        if recipe.teacher:  # measured with masks, never trained with them
            labelled = merge_sets([find_image_set(one.root, masks="required") for one in sets])
        image_set, validation = split_off(image_set, recipe.hold_out)[0], split_off(labelled, recipe.hold_out)[1]
    if options.teacher_maps and not options.skip_bad:
        expect_all_maps(options.teacher_maps, image_set.images, image_set.maps)
    if recipe.teacher and not options.teacher_maps and not options.teacher_weights:
        raise UserError(
            "distillation needs the teacher's weights: --teacher-weights FILE (an SCFNet with %s; "
            "kdscfnet weights list shows the released ones)" % recipe.teacher
        )

    def whole(image_set, beside, of="", **how):
        """The part of the set that can be read whole, images and its "masks" or "maps"; says what is left out."""
        problems = scan(image_set.images, getattr(image_set, beside), options.skip_bad, **how)
        good = [index for index in range(len(image_set)) if index not in problems]
        for problem in list(problems.values())[:5]:
            say("left out: %s" % problem)
        if problems:
            say("left out: %d of %d images%s (--skip-bad); %d remain" % (len(problems), len(image_set), of, len(good)))
        return image_set.part(good)

    image_set = whole(image_set, "maps" if recipe.teacher else "masks", same_size=not recipe.teacher)
    if options.teacher_maps:  # of what cannot be read whole, the teacher could make none
        expect_all_maps(options.teacher_maps, image_set.images, image_set.maps)
    if image_set.masks and image_set.maps:
        image_set = whole(image_set, "maps", same_size=False)
    table = None
    lines = []
    if image_set.masks:
        table, lines = target_levels(image_set.masks)
    elif image_set.maps:
        whose = "--teacher-maps %s: the maps" % " ".join(options.teacher_maps)
        _, lines = target_levels(image_set.maps, whose, teacher=True)
    for line in lines:
        say(line)
    if options.val:
        validation = find_image_set(options.val, masks="required", lists=FOR_VALIDATION)
    if validation is not None:
        validation = whole(validation, "masks", " to measure on", title="checking what to measure on")
        if not validation.images:
            raise UserError("%s: none of its images can be read whole" % validation.root)
        say("validation on " + validation.describe())
        both = set(map(os.path.realpath, image_set.images)).intersection(map(os.path.realpath, validation.images))
        if both:
            say("%d of the %d images to measure on are trained on, too" % (len(both), len(validation)))
    return image_set, table, validation, [[one.name, len(one)] for one in sets]


def find_training_sets(paths, default_name, masks):
    """The data sets at `paths`, a list of ImageSet; no paths: the one at data/<default_name>.

    A path names the set's own folder, or a folder that holds one named `default_name`.
    """
    usual = os.path.join("data", default_name)
    if not paths and not os.path.isdir(usual):
        flag = "data" if masks == "required" else "images"
        raise UserError("there is no data folder %s: give one with --%s DIR, or try --demo" % (usual, flag))
    sets = []
    for path in paths or [usual]:
        inside = os.path.join(path, default_name)
        sets.append(find_image_set(inside if os.path.isdir(inside) else path, masks=masks))
    roots = [os.path.realpath(one.root) for one in sets]
    for root, one in zip(roots, sets):
        if roots.count(root) > 1:
            raise UserError("%s is given twice: name each data set once" % one.root)
    return sets


def with_maps(folders, sets):
    """The sets with the teacher's maps of their images, None for an image without one.

    folders: one for all sets, or one for each.
    """
    if len(folders) not in (1, len(sets)):
        raise UserError("--teacher-maps names %d folders: give one, or one for each data set" % len(folders))
    if len(folders) == 1:
        seen = {}
        for one in sets:
            for name in one.names:
                if seen.setdefault(name, one) is not one:
                    raise UserError(
                        "%s and %s both hold an image %s: give each its own folder of --teacher-maps"
                        % (seen[name].root, one.root, name)
                    )
        folders = folders * len(sets)
    found = []
    for folder, one in zip(folders, sets):
        if not os.path.isdir(folder):
            raise UserError("--teacher-maps %s: there is no such folder" % folder)
        maps = match_names(list_images(folder), one.names)
        found.append(replace(one, maps=tuple(map(maps.get, one.names))))
    return found


def expect_all_maps(folders, images, maps):
    """Raise UserError where a map is None."""
    missing = [image for image, path in zip(images, maps) if path is None]
    if missing:
        first = os.path.splitext(os.path.basename(missing[0]))[0]
        counts = " ".join(folders), len(missing), len(images), first
        raise UserError("--teacher-maps %s: %d of %d images have no map (the first: %s)" % counts)


def split_off(image_set, count):
    """(the set without, a set of) `count` of its images, taken at equal distances, so that every run takes the same."""
    if not 0 < count < len(image_set):
        raise UserError("--hold-out %d: the set has %d images" % (count, len(image_set)))
    held = {(2 * i + 1) * len(image_set) // (2 * count) for i in range(count)}
    kept = [index for index in range(len(image_set)) if index not in held]
    return image_set.part(kept), replace(image_set.part(sorted(held)), name=image_set.name + " (held out)")
