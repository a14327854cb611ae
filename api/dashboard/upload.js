// upload.js - a file in pieces (tus 1.0): a broken connection costs one piece, not the file; so does a page that was closed or loaded again.
import { post, send } from "./api.js";

const PIECE = 8 << 20, TRIES = 5, TUS = { "Tus-Resumable": "1.0.0" };

async function piece(url, file, offset) {
    const answer = await send("PATCH", url, { body: file.slice(offset, offset + PIECE),
        headers: { ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" } });
    return [Number(answer.headers.get("Upload-Offset")), answer.headers.get("Blob-Digest")];
}

/** Where the service stands, after the connection broke. */
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
            if (!e.status)
                throw e;
        }
    const begun = await send("POST", "/v1/uploads", { headers: { ...TUS, "Upload-Length": String(size) } });
    const url = new URL(begun.headers.get("Location"), location.href).pathname;
    sessionStorage.setItem(key, url);
    return [url, 0, begun.headers.get("Blob-Digest")];
}

async function upload(file, progress) {
    const key = `upload ${file.name} ${file.size} ${file.lastModified}`;
    let [url, offset, digest] = await begin(key, file.size);
    for (let failures = 0; !digest;) {
        try {
            [offset, digest] = await piece(url, file, offset);
            failures = 0;
        } catch (e) {
            if (e.status || ++failures === TRIES)       // the service refused, or it is gone
                throw e;
            await new Promise((again) => setTimeout(again, 500 * 2 ** failures));
            [offset, digest] = await position(url);
        }
        progress(offset / file.size);
    }
    sessionStorage.removeItem(key);
    return digest;
}

/** Uploads and registers a model or a data set; progress(0..1). */
export async function register(kind, file, progress) {
    const digest = await upload(file, progress);
    return post(`/v1/${kind}`, kind === "models" ? { name: file.name, files: [{ path: file.name, digest }] } : { name: file.name, digest });
}
