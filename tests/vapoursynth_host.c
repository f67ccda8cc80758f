/* A program that reloads a script, as players do: host SCRIPT RELOADS FRAMES. */
#include <VSScript4.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const VSSCRIPTAPI *scripts = getVSScriptAPI(VSSCRIPT_API_VERSION);
    if (argc != 4 || !scripts)
        return 2;
    const VSAPI *api = scripts->getVSAPI(VAPOURSYNTH_API_VERSION);
    int reloads = atoi(argv[2]), frames = atoi(argv[3]);
    for (int i = 0; i < reloads; i++) {
        VSScript *script = scripts->createScript(NULL);
        if (scripts->evaluateFile(script, argv[1])) {
            fprintf(stderr, "%s\n", scripts->getError(script));
            return 1;
        }
        VSNode *node = scripts->getOutputNode(script, 0);
        for (int n = 0; n < frames; n++) {
            char error[1024];
            const VSFrame *frame = api->getFrame(n, node, error, sizeof error);
            if (!frame) {
                fprintf(stderr, "%s\n", error);
                return 1;
            }
            api->freeFrame(frame);
        }
        api->freeNode(node);
        scripts->freeScript(script);
    }
    printf("%d reloads\n", reloads);
    return 0;
}
