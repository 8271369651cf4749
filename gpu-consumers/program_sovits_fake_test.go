// GPT-SoVITS' scripts as they really behave: what they are told by variables, where they
// look for their parts, what they leave.

package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// soVITS plays the script that was started.
func (s *fakeScript) soVITS() error {
	for _, part := range []string{"GPT_SoVITS", "tools"} { // all of them import from where they run
		if _, err := os.Stat(part); err != nil {
			return fmt.Errorf("ModuleNotFoundError: No module named '%s'", part)
		}
	}
	if !strings.Contains(os.Getenv("PYTHONPATH"), "GPT_SoVITS") {
		return errors.New("ModuleNotFoundError: No module named 'text'")
	}
	opt := os.Getenv("opt_dir")
	switch filepath.Base(s.script) {
	case "fasterwhisper_asr.py":
		return s.recognise()
	case "1-get-text.py":
		lines, err := os.ReadFile(os.Getenv("inp_text"))
		if err != nil {
			return err
		}
		var out strings.Builder
		for line := range strings.Lines(string(lines)) {
			fields := strings.Split(strings.TrimSpace(line), "|")
			fmt.Fprintf(&out, "%s\tHH AH0 L\t[1]\t%s\n", fields[0], fields[3])
		}
		return os.WriteFile(opt+"/2-name2text-"+os.Getenv("i_part")+".txt", []byte(out.String()), 0o600)
	case "2-get-hubert-wav32k.py":
		wavs, _ := filepath.Glob(os.Getenv("inp_wav_dir") + "/*.wav")
		if len(wavs) == 0 {
			return errors.New("FileNotFoundError: no wav")
		}
		return os.MkdirAll(opt+"/4-cnhubert", 0o700)
	case "3-get-semantic.py":
		return os.WriteFile(opt+"/6-name2semantic-0.tsv", []byte("0000.wav\t1 2 3"), 0o600)
	case "s2_train.py":
		return s.trainSoVITS()
	case "s1_train.py":
		return s.trainGPT()
	}
	return fmt.Errorf("no script %s", s.script)
}

func (s *fakeScript) recognise() error {
	wavs, _ := filepath.Glob(s.opts["-i"] + "/*.wav")
	if err := os.MkdirAll(s.opts["-o"], 0o700); err != nil {
		return err
	}
	var lines []string
	for i, path := range wavs {
		bar("", i+1, len(wavs))
		lines = append(lines, path+"|wavs|EN| Green tea | is picked.")
	}
	lines = append(lines, s.opts["-i"]+"/silence.wav|wavs|EN|")
	return os.WriteFile(s.opts["-o"]+"/"+filepath.Base(s.opts["-i"])+".list", []byte(strings.Join(lines, "\n")), 0o600)
}

func (s *fakeScript) trainSoVITS() error {
	var c struct {
		Train struct {
			Epochs int `json:"epochs"`
			Every  int `json:"save_every_epoch"`
		} `json:"train"`
		Model struct {
			Version string `json:"version"`
		} `json:"model"`
		Data struct {
			Exp  string `json:"exp_dir"`
			Rate int    `json:"sampling_rate"`
		} `json:"data"`
		Weights string `json:"save_weight_dir"`
		Name    string `json:"name"`
	}
	text, err := os.ReadFile(s.opts["--config"])
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil || c.Data.Rate != 32000 { // of the checkout's own file
		return fmt.Errorf("configuration %s, error %w", text, err)
	}
	latest := fmt.Sprintf("%s/logs_s2_%s/G_233333333333.pth", c.Data.Exp, c.Model.Version)
	first := 1
	if before, err := os.ReadFile(latest); err == nil {
		_, _ = fmt.Sscan(string(before), &first)
		first++
	}
	fmt.Printf("start training from epoch %d\n", first)
	for epoch := first; epoch <= c.Train.Epochs; epoch++ {
		if epoch%c.Train.Every == 0 {
			if err := os.WriteFile(latest, []byte(fmt.Sprint(epoch)), 0o600); err != nil {
				return err
			}
			path := fmt.Sprintf("%s/%s_e%d_s%d.pth", c.Weights, c.Name, epoch, epoch*4)
			if err := errors.Join(torchFile(path), s.spoil(path)); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "INFO:exp:====> Epoch: %d\n", epoch)
		if epoch >= c.Train.Epochs/2 {
			if err := s.inTheMiddle(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *fakeScript) trainGPT() error {
	var c struct {
		Train struct {
			Epochs  int     `yaml:"epochs"`
			Every   int     `yaml:"save_every_n_epoch"`
			Weights string  `yaml:"half_weights_save_dir"`
			Name    string  `yaml:"exp_name"`
			Half    string  `yaml:"precision"`
			DPO     *bool   `yaml:"if_dpo"`
			Clip    float64 `yaml:"gradient_clip"`
		} `yaml:"train"`
		Optimizer map[string]string `yaml:"optimizer"`
		Codes     string            `yaml:"train_semantic_path"`
		Texts     string            `yaml:"train_phoneme_path"`
	}
	text, err := os.ReadFile(s.opts["--config_file"])
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil || c.Optimizer["lr_init"] != "0.00001" || c.Train.DPO == nil || os.Getenv("hz") != "25hz" { // 1e-05 would be a text to PyYAML
		return fmt.Errorf("configuration %s, error %w", text, err)
	}
	codes, err := os.ReadFile(c.Codes)
	if err != nil || !strings.HasPrefix(string(codes), "item_name\tsemantic_audio\n0000.wav\t") {
		return fmt.Errorf("codes %q, error %w", codes, err)
	}
	if _, err := os.Stat(c.Texts); err != nil {
		return err
	}
	for epoch := 1; epoch <= c.Train.Epochs; epoch++ {
		bar(fmt.Sprintf("Epoch %d: ", epoch-1), 5, 5)
		if epoch%c.Train.Every == 0 {
			if err := torchFile(fmt.Sprintf("%s/%s-e%d.ckpt", c.Train.Weights, c.Train.Name, epoch)); err != nil {
				return err
			}
		}
	}
	return nil
}
