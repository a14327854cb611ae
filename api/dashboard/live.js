// live.js - what happens now.  The events of a job come by long polls: a question that is answered when something has happened.
import { get } from "./api.js";

const WAIT = 20;        // seconds that the service may take to answer when nothing happens
export const TERMINAL = ["succeeded", "failed", "canceled"];

function pause(ms, signal) {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
}

/** Runs step() now and then every `ms` until it returns false or the signal is aborted; not while the page is hidden. */
export async function every(ms, signal, step) {
    while (!signal.aborted) {
        if (!document.hidden && await step() === false)
            return;
        await pause(ms, signal);
    }
}

/** The events after a seq; with `wait` it takes up to so many seconds until there is one, or the job has ended. */
async function eventsAfter(id, after, wait, signal) {
    const events = [];
    for (let more = true; more; wait = 0) {
        const page = await get(`/v1/jobs/${id}/events?after=${after}&limit=1000&wait=${wait}`, signal);
        events.push(...page.data);
        after = page.data.length ? page.data[page.data.length - 1].seq : after;
        more = page.next_cursor !== null;
    }
    return events;
}

/** Calls update(job, new events) whenever something has happened, until the job has ended.  Events come in order and once each. */
export async function watchJob(id, signal, update) {
    let after = 0, first = true, ended = false;
    async function step() {
        const events = await eventsAfter(id, after, first ? 0 : WAIT, signal), job = await get(`/v1/jobs/${id}`, signal);
        ended = TERMINAL.includes(job.state);
        if (ended)          // what was told between the two questions
            events.push(...await eventsAfter(id, events.length ? events[events.length - 1].seq : after, 0, signal));
        after = events.length ? events[events.length - 1].seq : after;
        if (first || events.length)
            update(job, events);
        first = false;
        return !ended;
    }
    await every(200, signal, async () => {
        try {
            return await step();
        } catch (e) {
            if (signal.aborted || (e.status && e.status !== 503))
                throw e;
            await pause(3000, signal);      // it restarts, or has too many readers
            return true;
        }
    });
}
