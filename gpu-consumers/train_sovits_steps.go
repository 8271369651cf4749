// The scripts of GPT-SoVITS that train, what they are told, and the weights that they
// leave.

package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/myspinbot/myspinbot/events"
)

var (
	soVITSEpoch = regexp.MustCompile(`====> Epoch: ([0-9]+)`)
	gptEpoch    = regexp.MustCompile(`Epoch ([0-9]+): *100%`)
)

// steps are the scripts after the recogniser.
func (j *soVITSJob) steps() []soVITSStep {
	t := j.t
	script := func(name string) string { return t.below("prepare_datasets", name) }
	half := map[bool]string{true: "False", false: "True"}[t.Full]
	env := []string{"inp_text=" + filepath.Join(j.dir, "voice.list"), "inp_wav_dir=" + filepath.Join(j.dir, "wavs"), "exp_name=voice", "opt_dir=" + j.exp(),
		"i_part=0", "all_parts=1", "is_half=" + half, "bert_pretrained_dir=" + t.pretrained("chinese-roberta-wwm-ext-large"), "cnhubert_base_dir=" + t.pretrained("chinese-hubert-base"),
		"sv_path=" + t.pretrained("sv/pretrained_eres2netv2w24s4ep4.ckpt"), "pretrained_s2G=" + t.pretrained(t.model.s2g), "s2config_path=" + t.below("configs", t.model.config)}
	texts, codes := j.exp("2-name2text.txt"), j.exp("6-name2semantic.tsv")
	all := []soVITSStep{
		{name: "reading the texts", script: script("1-get-text.py"), env: env, makes: j.exp("2-name2text-0.txt"), from: 20, to: 24,
			done: func() bool { return plainFile(texts) }, finish: func() error { return j.join(j.exp("2-name2text-0.txt"), texts, "") }},
		{name: "hearing the voice", script: script("2-get-hubert-wav32k.py"), env: env, from: 24, to: 30},
	}
	if t.pro() {
		all = append(all, soVITSStep{name: "knowing the speaker", script: script("2-get-sv.py"), env: env, from: 30, to: 32})
	}
	return append(all,
		soVITSStep{name: "coding the voice", script: script("3-get-semantic.py"), env: env, makes: j.exp("6-name2semantic-0.tsv"), from: 32, to: 36,
			done: func() bool { return plainFile(codes) }, finish: func() error { return j.join(j.exp("6-name2semantic-0.tsv"), codes, "item_name\tsemantic_audio\n") }},
		soVITSStep{name: "training SoVITS", script: t.below("s2_train.py"), args: []string{"--config", filepath.Join(j.dir, "s2.json")}, from: 36, to: 70,
			pattern: soVITSEpoch, of: float64(t.SoVITSEpochs), done: func() bool { return j.ready(soVITSWeights, t.SoVITSEpochs) }},
		soVITSStep{name: "training GPT", script: t.below("s1_train.py"), args: []string{"--config_file", filepath.Join(j.dir, "s1.yaml")}, env: []string{"hz=25hz"}, from: 70, to: 98,
			pattern: gptEpoch, of: float64(t.GPTEpochs), done: func() bool { return j.ready(gptWeights, t.GPTEpochs) }},
	)
}

// join makes one file of the parts, of which there is one.
func (j *soVITSJob) join(part, whole, head string) error {
	text, err := os.ReadFile(part)
	if err != nil {
		return fmt.Errorf("cannot read what GPT-SoVITS prepared: %w", err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return &TaskError{Class: events.ClassEngineRejected, Message: "GPT-SoVITS could prepare none of the sentences", Hint: "the end of its log says why", LogTail: j.log.String()}
	}
	return errors.Join(writeWhole(whole, []byte(head+strings.TrimSpace(string(text))+"\n")), os.Remove(part))
}

// configure writes what the trainings are told.
func (j *soVITSJob) configure() error {
	t := j.t
	var s2 map[string]any
	text, err := os.ReadFile(t.below("configs", t.model.config))
	if err == nil {
		err = json.Unmarshal(text, &s2)
	}
	part := func(name string) map[string]any {
		p, _ := s2[name].(map[string]any)
		if p == nil {
			p = map[string]any{}
			s2[name] = p
		}
		return p
	}
	if err != nil || s2 == nil {
		return &TaskError{Class: events.ClassEngineUnavailable, Message: "GPT-SoVITS' configuration cannot be read", Hint: soVITSHint, Err: err}
	}
	train := part("train")
	for name, value := range map[string]any{"fp16_run": !t.Full, "batch_size": j.batch, "epochs": t.SoVITSEpochs, "text_low_lr_rate": 0.4, "pretrained_s2G": t.pretrained(t.model.s2g),
		"pretrained_s2D": t.pretrained(t.model.s2d), "if_save_latest": true, "if_save_every_weights": true, "save_every_epoch": saveEvery(t.SoVITSEpochs), "gpu_numbers": "0", "grad_ckpt": false, "lora_rank": 32} {
		train[name] = value
	}
	part("model")["version"] = t.Version
	part("data")["exp_dir"] = j.exp()
	s2["s2_ckpt_dir"], s2["save_weight_dir"], s2["name"], s2["version"] = j.exp(), filepath.Join(j.dir, "weights"), "voice", t.Version
	if text, err = json.Marshal(s2); err != nil {
		return fmt.Errorf("cannot write GPT-SoVITS' configuration: %w", err)
	}
	s1, err := j.configureGPT()
	if err != nil {
		return err
	}
	return errors.Join(writeWhole(filepath.Join(j.dir, "s2.json"), text), writeWhole(filepath.Join(j.dir, "s1.yaml"), s1))
}

// configureGPT changes the values in the checkout's own file and leaves the others as they
// are written there: 1e-05, as encoders write 0.00001, is no number to PyYAML.
func (j *soVITSJob) configureGPT() ([]byte, error) {
	t := j.t
	var doc yaml.Node
	text, err := os.ReadFile(t.below("configs", "s1longer-v2.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &doc)
	}
	if err != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "GPT-SoVITS' configuration cannot be read", Hint: soVITSHint, Err: err}
	}
	root := doc.Content[0]
	precision := "16-mixed"
	if t.Full {
		precision = "32"
	}
	train := yamlMember(root, "train", &yaml.Node{Kind: yaml.MappingNode})
	for name, value := range map[string]any{"batch_size": j.batch, "epochs": t.GPTEpochs, "save_every_n_epoch": saveEvery(t.GPTEpochs), "if_save_every_weights": true, "if_save_latest": true,
		"if_dpo": false, "half_weights_save_dir": filepath.Join(j.dir, "weights"), "exp_name": "voice", "precision": precision} {
		setYAML(train, name, value)
	}
	for name, value := range map[string]any{"pretrained_s1": t.pretrained(t.model.gpt), "train_semantic_path": j.exp("6-name2semantic.tsv"),
		"train_phoneme_path": j.exp("2-name2text.txt"), "output_dir": j.exp("logs_s1_" + t.Version)} {
		setYAML(root, name, value)
	}
	if text, err = yaml.Marshal(&doc); err != nil {
		return nil, fmt.Errorf("cannot write GPT-SoVITS' configuration: %w", err)
	}
	return text, nil
}

// yamlMember is the value of a mapping's key, which is added when it is not there.
func yamlMember(mapping *yaml.Node, key string, absent *yaml.Node) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, absent)
	return absent
}

// saveEvery is after how many epochs the weights are saved: some three times, the last
// epoch among them.
func saveEvery(epochs int) int {
	n := max(1, (epochs+2)/3)
	for epochs%n != 0 {
		n++
	}
	return n
}

func setYAML(mapping *yaml.Node, key string, value any) {
	var node yaml.Node
	_ = node.Encode(value) // texts, numbers and booleans always encode
	*yamlMember(mapping, key, new(yaml.Node)) = node
}

// Names of the weights, with their epoch.
var (
	soVITSWeights = regexp.MustCompile(`^voice_e([0-9]+)_s[0-9]+\.pth$`)
	gptWeights    = regexp.MustCompile(`^voice-e([0-9]+)\.ckpt$`)
)

// weights are the files of one kind by their epoch.
func (j *soVITSJob) weights(kind *regexp.Regexp) map[int]string {
	found := map[int]string{}
	all, _ := os.ReadDir(filepath.Join(j.dir, "weights")) // there is nothing in what cannot be read
	for _, e := range all {
		path := filepath.Join(j.dir, "weights", e.Name())
		if m := kind.FindStringSubmatch(e.Name()); m != nil && wholeTorch(path) {
			epoch, _ := strconv.Atoi(m[1]) // digits
			found[epoch] = path
		}
	}
	return found
}

func (j *soVITSJob) ready(kind *regexp.Regexp, epochs int) bool { return j.weights(kind)[epochs] != "" }

// collect adds the weights to the outputs.
func (j *soVITSJob) collect(files map[string][]File) error {
	for _, kind := range []struct {
		names  *regexp.Regexp
		what   string
		ending string
		epochs int
	}{{gptWeights, "gpt", gptEnding, j.t.GPTEpochs}, {soVITSWeights, "sovits", soVITSEnding, j.t.SoVITSEpochs}} {
		found := j.weights(kind.names)
		if found[kind.epochs] == "" {
			return &TaskError{Class: events.ClassEngineRejected, Message: "GPT-SoVITS ended well but left no " + kind.what + " weights of its last epoch", Hint: "the end of its log says why", LogTail: j.log.String()}
		}
		for epoch, path := range found {
			output, name := "voice_weights", "voice-"+kind.what+kind.ending
			if epoch != kind.epochs {
				output, name = "checkpoints", fmt.Sprintf("voice-%s-epoch%03d%s", kind.what, epoch, kind.ending)
			}
			if err := copyFile(path, filepath.Join(j.a.Dir, name)); err != nil {
				return err
			}
			files[output] = append(files[output], File{Path: filepath.Join(j.a.Dir, name), Artifact: events.Artifact{Name: name, Type: "weights", MediaType: "application/octet-stream"}})
		}
	}
	for _, output := range []string{"voice_weights", "checkpoints"} {
		slices.SortFunc(files[output], func(x, y File) int { return strings.Compare(x.Artifact.Name, y.Artifact.Name) })
	}
	return nil
}
