// upload.js - a file in pieces (tus 1.0): a broken connection costs one piece, not the file; so does a page that was closed or loaded again.
import { passing, post, send } from "./api.js";
import { fitting } from "./dom.js";

const PIECE = 8 << 20, TRIES = 8, LONGEST = 15, TUS = { "Tus-Resumable": "1.0.0" };
const NAME = 200;       // bytes that a name may have

async function piece(url, file, offset) {
    const answer = await send("PATCH", url, { body: file.slice(offset, offset + PIECE),
        headers: { ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" } });
    return [Number(answer.headers.get("Upload-Offset")), answer.headers.get("Blob-Digest")];
}

/** Where the service stands, after a failure. */
async function position(url) {
    const answer = await send("HEAD", url, { headers: TUS });
    return [Number(answer.headers.get("Upload-Offset")), answer.headers.get("Blob-Digest")];
}

/** Where the file's upload goes on that an earlier page of this tab began, or a new one: [url, offset, digest or null]. */
async function begin(key, size) {
    const known = sessionStorage.getItem(key);
    if (known)
        try {
            return [known, ...await position(known)];
        } catch (e) {
            if (passing(e))
                throw e;
        }
    const begun = await send("POST", "/v1/uploads", { headers: { ...TUS, "Upload-Length": String(size) } });
    const url = new URL(begun.headers.get("Location"), location.href).pathname;
    sessionStorage.setItem(key, url);
    return [url, 0, begun.headers.get("Blob-Digest")];
}

const keyOf = (file) => `upload ${file.name} ${file.size} ${file.lastModified}`;

async function upload(file, progress) {
    const key = keyOf(file);
    let url = null, offset = 0, digest = null;
    for (let failures = 0, asked = false; !digest;) {
        try {
            if (!url)
                [url, offset, digest] = await begin(key, file.size);
            else if (!asked)
                [offset, digest] = await position(url);
            asked = true;
            if (!digest)
                [offset, digest] = await piece(url, file, offset);
            failures = 0;
        } catch (e) {
            // 423: the connection that broke is not closed there yet.
            if (!(passing(e) || e.status === 423) || ++failures === TRIES)
                throw e;
            asked = false;
            await new Promise((again) => setTimeout(again, 1000 * Math.min(2 ** (failures - 1), LONGEST)));
        }
        progress(offset / file.size);
    }
    return digest;
}

async function enroll(kind, file, progress) {
    const digest = await upload(file, progress), name = fitting(file.name, NAME);
    const made = await post(`/v1/${kind}`, kind === "models" ? { name, files: [{ path: "model.onnx", digest }] } : { name, digest });
    sessionStorage.removeItem(keyOf(file));
    return made;
}

const underway = new Map();     // kind and file: {made, hear}

/** Uploads and registers a model or a data set; progress(0..1).  The same file twice at once is one. */
export function register(kind, file, progress) {
    const key = `${kind} ${keyOf(file)}`, one = underway.get(key) || { hear: [] };
    one.hear.push(progress);
    if (!one.made) {
        underway.set(key, one);
        one.made = enroll(kind, file, (part) => one.hear.forEach((hear) => hear(part))).finally(() => underway.delete(key));
    }
    return one.made;
}
