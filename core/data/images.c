#include "core/data/images.h"

#include "core/base/hash.h"
#include "core/data/format.h"
#include "core/data/labels.h"
#include "core/data/preprocess.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_MAX = 16 << 20, PREVIEWS = 8, PREVIEW_SIDE = 64 };

/* A file of the set: in an archive, or in a folder. */
struct member {
    const char *name;                       /* below the folder that preprocess.json lies in */
    const struct zip_entry *entry;          /* NULL: in a folder */
};

/* The bytes of one, while they are needed. */
struct bytes {
    const uint8_t *p;
    uint64_t n;
    void *owned;                            /* malloc'd, or NULL */
    struct mapping map;
};

struct set {
    struct arena *mem;
    const char *name;                       /* of the data set, for messages */
    int dir;                                /* the folder; -1: an archive */
    struct member *members;                 /* the pictures, sorted */
    size_t n;
    struct member preprocess, labels;       /* name NULL: there is none */
    struct preprocess how;
    struct labels table;
    struct hash *hash;                      /* takes in what is read, if not NULL */
    struct err *e;
};

/* ---- names ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcasecmp(name + n - m, end) == 0;
}

static bool picture_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return (slash ? slash[1] : name[0]) != '.' && (ends_with(name, ".jpg") || ends_with(name, ".jpeg") || ends_with(name, ".png"));
}

static int by_name(const void *a, const void *b) { return strcmp(((const struct member *)a)->name, ((const struct member *)b)->name); }

/* Puts a file where it belongs; others are passed over. */
static bool sort_in(struct set *s, const char *name, const struct zip_entry *entry)
{
    struct member m = { name, entry };
    if (strcmp(name, "preprocess.json") == 0)
        s->preprocess = m;
    else if (strcmp(name, "labels.csv") == 0)
        s->labels = m;
    else if (picture_name(name)) {
        if (s->n == IMAGES_MAX)
            return err_set(s->e, ERR_DATA_LIMIT, s->name, "more than %d pictures; calibration needs 32 to 512", IMAGES_MAX);
        s->members[s->n++] = m;
    }
    return true;
}

/* ---- reading one file ---- */

static void bytes_release(struct bytes *b)
{
    free(b->owned);
    mapping_release(&b->map);
    *b = (struct bytes){ 0 };
}

static bool unpack(const struct zip_entry *entry, const char *where, struct bytes *ret, struct err *e)
{
    struct zip_reader r;
    bool ok = zip_start(&r, entry, where, e);
    if (ok && !entry->deflated) {
        ret->p = zip_at(&r);
        ok = zip_skim(&r, entry->unpacked, e);
    } else if (ok) {
        ret->p = ret->owned = calloc((size_t)entry->unpacked + 1, 1);
        ok = ret->owned ? zip_read(&r, ret->owned, entry->unpacked, e) : err_sys(e, where, "unpack");
    }
    ok = ok && zip_end(&r, e);
    zip_stop(&r);
    ret->n = entry->unpacked;
    return ok;
}

static bool map_in_folder(const struct set *s, const char *name, struct bytes *ret)
{
    int fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_sys(s->e, name, "open");
    bool ok = mapping_fd(&ret->map, fd, name, s->e);
    close(fd);
    ret->p = ret->map.data;
    ret->n = ret->map.size;
    return ok;
}

static bool read_member(const struct set *s, const struct member *m, uint64_t limit, struct bytes *ret)
{
    *ret = (struct bytes){ 0 };
    if (m->entry && m->entry->unpacked > limit)
        return err_set(s->e, ERR_DATA_LIMIT, m->name, "the file has %llu bytes, at most %llu are read", (unsigned long long)m->entry->unpacked,
                       (unsigned long long)limit);
    bool ok = m->entry ? unpack(m->entry, m->name, ret, s->e) : map_in_folder(s, m->name, ret);
    if (ok && ret->n > limit)
        ok = err_set(s->e, ERR_DATA_LIMIT, m->name, "the file has %llu bytes, at most %llu are read", (unsigned long long)ret->n, (unsigned long long)limit);
    if (ok && s->hash) {
        hash_add(s->hash, m->name, strlen(m->name) + 1);
        hash_add(s->hash, ret->p ? ret->p : (const uint8_t *)"", (size_t)ret->n);
    }
    if (!ok)
        bytes_release(ret);
    return ok;
}

/* ---- the texts ---- */

static bool read_preprocess(struct set *s)
{
    struct bytes b;
    if (!s->preprocess.name)
        return err_set(s->e, ERR_DATA_FORMAT, s->name,
                       "pictures without a preprocess.json: add one beside them, for example {\"resize\": 256, \"crop\": 224, "
                       "\"mean\": [0.485, 0.456, 0.406], \"std\": [0.229, 0.224, 0.225]}");
    if (!read_member(s, &s->preprocess, TEXT_MAX, &b))
        return false;
    bool ok = preprocess_parse((const char *)b.p, (size_t)b.n, &s->how, s->e);
    bytes_release(&b);
    return ok;
}

static bool read_labels(struct set *s)
{
    struct bytes b;
    if (!s->labels.name)
        return true;
    if (!read_member(s, &s->labels, TEXT_MAX, &b))
        return false;
    bool ok = labels_parse(s->mem, (const char *)b.p, (size_t)b.n, &s->table, s->e);
    bytes_release(&b);
    return ok;
}

/* ---- the pictures ---- */

static bool read_frame(struct set *s, size_t i, struct picture *ret)
{
    struct bytes b;
    struct picture whole = PICTURE_NONE;
    if (!read_member(s, &s->members[i], PICTURE_MAX_FILE, &b))
        return false;
    bool ok = picture_decode(b.p, b.n, s->members[i].name, &whole, s->e)
           && preprocess_frame(&s->how, &whole, s->members[i].name, ret, s->e);
    picture_release(&whole);
    bytes_release(&b);
    return ok;
}

static bool alloc_values(struct set *s, const struct picture *frame, struct array *ret)
{
    struct shape shape = { .rank = 4, .dim = { (int64_t)s->n, 3, frame->height, frame->width } };
    uint64_t bytes;
    if (s->how.nhwc)
        shape = (struct shape){ .rank = 4, .dim = { (int64_t)s->n, frame->height, frame->width, 3 } };
    ret->name = array_name(s->mem, s->how.input, strlen(s->how.input), "preprocess.json/input", s->e);
    ret->t = (struct tensor){ .dtype = DT_F32, .shape = shape };
    return ret->name && array_size(DT_F32, &shape, s->name, &bytes, s->e) && array_alloc(s->mem, bytes, s->name, ret, s->e);
}

/* A small one for people, of the first few. */
static bool add_preview(struct set *s, size_t i, const struct picture *frame, struct dataset *d)
{
    int side = frame->width > frame->height ? frame->width : frame->height, shown = side < PREVIEW_SIDE ? side : PREVIEW_SIDE;
    int width = frame->width * shown / side, height = frame->height * shown / side;
    struct picture small;
    if (i >= PREVIEWS)
        return true;
    if (!picture_resize(frame, width < 1 ? 1 : width, height < 1 ? 1 : height, RESAMPLE_BILINEAR, &small, s->e))
        return false;
    size_t n = (size_t)small.width * (size_t)small.height * 3;
    struct preview *p = &d->previews[d->n_previews];
    *p = (struct preview){ s->members[i].name, small.width, small.height, arena_alloc(s->mem, n, s->e) };
    if (p->rgb)
        memcpy(p->rgb, small.rgb, n);
    d->n_previews += p->rgb != NULL;
    picture_release(&small);
    return p->rgb;
}

/* All must have the size of the first. */
static bool take_frame(struct set *s, size_t i, const struct picture *frame, struct dataset *d, struct picture *first)
{
    struct array *a = &d->arrays[0];
    if (i == 0) {
        *first = (struct picture){ frame->width, frame->height, NULL };
        if (!alloc_values(s, frame, a))
            return false;
    }
    if (frame->width != first->width || frame->height != first->height)
        return err_set(s->e, ERR_DATA_SHAPE, s->members[i].name, "the picture becomes %d x %d pixels, the first one %d x %d; add \"crop\" to preprocess.json",
                       frame->width, frame->height, first->width, first->height);
    int64_t n = 3 * (int64_t)frame->width * frame->height;
    preprocess_values(&s->how, frame, (float *)a->t.data + (int64_t)i * n);
    array_rest(a, (int64_t)i * n, n);
    return add_preview(s, i, frame, d);
}

static bool read_pictures(struct set *s, struct dataset *d)
{
    struct picture first = PICTURE_NONE;
    bool ok = true;
    for (size_t i = 0; ok && i < s->n; i++) {
        struct picture frame = PICTURE_NONE;
        ok = read_frame(s, i, &frame) && take_frame(s, i, &frame, d, &first);
        picture_release(&frame);
    }
    return ok;
}

static bool add_labels(struct set *s, struct dataset *d)
{
    if (!s->labels.name)
        return true;
    struct array *a = &d->arrays[1];
    a->name = "labels";
    a->t = (struct tensor){ .dtype = DT_I64, .shape = { .rank = 1, .dim = { (int64_t)s->n } } };
    if (!array_alloc(s->mem, s->n * sizeof(int64_t), "labels.csv", a, s->e))
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!labels_find(&s->table, s->members[i].name, (int64_t *)a->t.data + i))
            return err_set(s->e, ERR_DATA_FORMAT, "labels.csv", "there is no label for %.100s; add a line for each picture", s->members[i].name);
    d->n = 2;
    return true;
}

static bool open_set(struct set *s, struct dataset *ret)
{
    struct dataset d = { .format = "images", .n = 1 };
    if (s->n == 0)
        return err_set(s->e, ERR_DATA_FORMAT, s->name, "there are no .jpg, .jpeg or .png files beside preprocess.json");
    qsort(s->members, s->n, sizeof *s->members, by_name);
    for (size_t i = 1; i < s->n; i++)
        if (strcmp(s->members[i].name, s->members[i - 1].name) == 0)
            return err_set(s->e, ERR_DATA_FORMAT, s->members[i].name, "two pictures have this name; keep one");
    d.arrays = arena_array(s->mem, 2, sizeof *d.arrays, s->e);
    d.previews = arena_array(s->mem, PREVIEWS, sizeof *d.previews, s->e);
    if (!d.arrays || !d.previews || !read_preprocess(s) || !read_labels(s) || !add_labels(s, &d) || !read_pictures(s, &d))
        return false;
    *ret = d;
    return true;
}

/* ---- an archive ---- */

/* The name as text, a folder's without its slash; NULL with *e if it is none. */
static const char *entry_name(struct set *s, const struct zip_entry *entry)
{
    size_t n = entry->name_size;
    bool folder = n && entry->name[n - 1] == '/';
    return array_name(s->mem, entry->name, n - folder, s->name, s->e);
}

/* The folder, with its slash, of the preprocess.json nearest to the top: the first *ret_n bytes of the result. */
static const char *find_root(const char *const *names, size_t n, size_t *ret_n)
{
    const char *best = NULL;
    *ret_n = 0;
    for (size_t i = 0; i < n; i++) {
        const char *slash = strrchr(names[i], '/'), *base = slash ? slash + 1 : names[i];
        size_t before = (size_t)(base - names[i]);
        if (strcmp(base, "preprocess.json") == 0 && (!best || before < *ret_n)) {
            best = names[i];
            *ret_n = before;
        }
    }
    return best ? best : "";
}

bool images_in_zip(const struct zip *z)
{
    static const char *const ends[] = { ".jpg", ".jpeg", ".png", "preprocess.json" };
    for (size_t i = 0; i < z->n; i++)
        for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
            size_t n = strlen(ends[k]);
            if (z->entries[i].name_size >= n && strncasecmp((const char *)z->entries[i].name + z->entries[i].name_size - n, ends[k], n) == 0)
                return true;
        }
    return false;
}

bool images_open_zip(struct arena *mem, const struct zip *z, const char *name, struct dataset *ret, struct err *e)
{
    struct set s = { .mem = mem, .name = name, .dir = -1, .e = e };
    const char **names = arena_array(mem, z->n, sizeof *names, e);
    s.members = arena_array(mem, z->n < IMAGES_MAX ? z->n : IMAGES_MAX, sizeof *s.members, e);
    if (!names || !s.members)
        return false;
    for (size_t i = 0; i < z->n; i++)
        if (!(names[i] = entry_name(&s, &z->entries[i])))
            return false;
    size_t n;
    const char *root = find_root(names, z->n, &n);
    for (size_t i = 0; i < z->n; i++)
        if (strncmp(names[i], root, n) == 0 && strncmp(names[i], "__MACOSX/", 9) != 0 && !sort_in(&s, names[i] + n, &z->entries[i]))
            return false;
    return open_set(&s, ret);
}

/* ---- a folder ---- */

static bool list_folder(struct set *s)
{
    int fd = dup(s->dir);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return err_sys(s->e, s->name, "read the folder");
    }
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(d));) {
        const char *name = entry->d_name;
        bool wanted = picture_name(name) || strcmp(name, "preprocess.json") == 0 || strcmp(name, "labels.csv") == 0;
        const char *copy = wanted ? array_name(s->mem, name, strlen(name), s->name, s->e) : NULL;
        ok = !wanted || (copy && sort_in(s, copy, NULL));
    }
    closedir(d);
    return ok;
}

bool dataset_open_folder(struct arena *mem, const char *path, struct dataset *ret, uint8_t ret_digest[HASH_SIZE], struct err *e)
{
    struct hash hash;
    struct set s = { .mem = mem, .name = path, .hash = &hash, .e = e };
    hash_init(&hash);
    s.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.dir < 0)
        return err_sys(e, path, "open the folder");
    s.members = arena_array(mem, IMAGES_MAX, sizeof *s.members, e);
    bool ok = s.members && list_folder(&s) && open_set(&s, ret);
    close(s.dir);
    hash_end(&hash, ret_digest);
    return ok;
}
